"""What ``gpu_check.py`` and ``tests/gpu`` compare: every op and the whole network, on the CPU and on another device.

The device is an argument, so that the comparisons themselves are tested where there is no GPU.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from pc3d import io
from pc3d.cli.demo import ROOM
from pc3d.cli.op_checks import CHECKS, difference
from pc3d.config import ModelConfig
from pc3d.config import build as build_config
from pc3d.data import collate, make_sample
from pc3d.models import build as build_model
from pc3d.ops import group_segments, relative_add, relative_read
from pc3d.ops._library import REFERENCES, has_kernel
from pc3d.ops.sparse_map import kernel_map, pack_keys
from pc3d.structures import PointBatch, PointCloud
from pc3d.superpoints import compute_superpoints

DIFFERENTIABLE = ("asam_pool", "segment_sum", "segment_max", "segment_expand", "relative_read", "relative_add", "sparse_conv",
                  "sparse_conv_weight_grad")
TOLERANCE = {False: 1e-4, True: 1e-9}  # in float64? -> difference in units of the largest number of the result, at least of 1
NETWORK = {"backbone": {"channels": [16, 32, 48, 64], "voxel_size": 0.05}, "classes": ["object", "thing"],
           "decoder": {"num_queries": 60, "d_model": 64, "num_heads": 4, "d_ffn": 128}}

Arguments = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the report; ``ok`` is None where there is nothing to fail."""

    what: str
    numbers: dict[str, float | str | bool | None]
    ok: bool | None = None


def seeded(seed: int = 0) -> torch.Generator:
    """A generator on the CPU: the same numbers go to every device."""
    return torch.Generator().manual_seed(seed)


def segment_ids(rows: int, segments: int, *, skewed: bool) -> Tensor:
    """Ids in [0, segments - 1), so that the last segment is empty; skewed: 99 % of the rows in segment 1."""
    anywhere = torch.randint(0, max(segments - 1, 1), (rows,), generator=seeded())
    return torch.where(torch.rand(rows, generator=seeded(1)) < 0.99, min(1, segments - 1), anywhere) if skewed else anywhere


def op_cases() -> dict[str, Callable[[], Arguments]]:
    """Name of a case, which starts with its op -> the arguments on the CPU. Doctor's own checks are among them."""
    cases: dict[str, Callable[[], Arguments]] = {f"{op} tiny": lambda make=make: make(seeded()) for op, make in CHECKS.items()}
    for rows, segments, channels, kind in ((0, 4, 5, "empty"), (1, 1, 1, "one row"), (1000, 7, 33, "skewed"),
                                           (3000, 400, 32, "even"), (20_000, 50, 70, "skewed"), (500, 9, 3, "with NaN")):
        for dtype in (torch.float32, torch.float64):
            name = f"{rows}x{channels} to {segments} {kind} {str(dtype)[6:]}"
            sizes = (rows, segments, channels, kind, dtype)
            cases[f"segment_sum {name}"] = cases[f"segment_max {name}"] = lambda s=sizes: segment_case(*s, expand=False)
            cases[f"segment_expand {name}"] = lambda s=sizes: segment_case(*s, expand=True)
    cases.update(pooling_cases())
    for boxes, waves, heads in ((1, 3, 1), (9, 1, 8), (30, 130, 9), (130, 12, 8)):
        for dtype in (torch.float32, torch.float64):
            name = f"{boxes} boxes {waves} waves {heads} heads {str(dtype)[6:]}"
            cases[f"relation_bias {name}"] = lambda s=(boxes, waves, heads, dtype): relation_case(*s)
            cases[f"relation_bias_grad {name}"] = lambda s=(boxes, waves, heads, dtype): relation_gradient_case(*s)
    for shape in ((2, 5, 7, 12), (4, 60, 333, 144), (2, 4, 0, 12)):
        for by_key in (False, True):
            name = f"{'x'.join(map(str, shape))} by {'key' if by_key else 'query'}"
            cases[f"relative_read {name}"] = lambda s=shape, b=by_key: relative_case(*s, b, read=True)
            cases[f"relative_add {name}"] = lambda s=shape, b=by_key: relative_case(*s, b, read=False)
    for voxels, channels in ((0, (5, 7)), (40, (5, 7)), (1500, (32, 33))):
        name = f"{voxels} voxels {channels[0]} to {channels[1]}"
        cases[f"sparse_kernel_map {name}"] = lambda v=voxels: (*[voxel_keys(v)] * 2, [3] * 3, [1] * 3, [1] * 3)
        cases[f"sparse_coarse_keys {name}"] = lambda v=voxels: (voxel_keys(v), [2] * 3, [2] * 3, [0] * 3, [8] * 3)
        cases[f"sparse_conv {name}"] = lambda v=voxels, c=channels: convolution_case(v, *c)
        cases[f"sparse_conv_weight_grad {name}"] = lambda v=voxels, c=channels: weight_gradient_case(v, *c)
    return cases


def segment_case(rows: int, segments: int, channels: int, kind: str, dtype: torch.dtype, *, expand: bool) -> Arguments:
    """Rows, of one decimal so that maxima tie, and how they group into segments."""
    groups = group_segments(segment_ids(rows, segments, skewed=kind == "skewed"), segments)
    x = torch.randn(segments if expand else rows, channels, generator=seeded(2)).round(decimals=1).to(dtype)
    if kind == "with NaN":
        x[::7] = torch.nan
    return x, *groups


def pooling_cases() -> Iterator[tuple[str, Callable[[], Arguments]]]:
    """ASAM pooling, in training and not: one point, superpoints of several chunks and of nothing, odd channels, NaN."""
    for points, rows, segments, channels, kind in ((1, 1, 1, 1, "one point"), (60, 40, 5, 19, "with NaN"),
                                                   (1500, 1200, 9, 33, "skewed"), (600, 500, 110, 48, "even")):
        for dtype in (torch.float32, torch.float64):
            for training in (False, True) if kind != "with NaN" else (False,):
                name = f"{points}x{channels} to {segments} {kind} {str(dtype)[6:]}{' training' if training else ''}"
                sizes = (points, rows, segments, channels, kind, dtype, training)
                yield f"asam_pool {name}", lambda s=sizes: pooling_case(*s)
                if kind != "with NaN":
                    yield f"asam_pool_grad {name}", lambda s=sizes: pooling_gradient_case(*s)


def pooling_case(points: int, rows: int, segments: int, channels: int, kind: str, dtype: torch.dtype,
                 training: bool) -> Arguments:
    """Points that share rows of one decimal, superpoints of which the last is empty, and both branches of weights."""
    index = segment_ids(points, segments, skewed=kind == "skewed")
    entries = torch.ops.pc3d.asam_entries(torch.randint(0, rows, (points,), generator=seeded(4)), index, rows, segments)
    shapes = (2, 2, channels, channels), (2, 2, 3, channels), (2, channels + 1), (2, 2, 2, channels)
    weights, norms, last, stats = (torch.randn(shape, generator=seeded(5 + i)).double() for i, shape in enumerate(shapes))
    x = torch.randn(rows, channels, generator=seeded(2)).round(decimals=1).to(dtype)
    if kind == "with NaN":
        x[0] = torch.nan
    return x, *entries, weights / channels**0.5, 1 + 0.3 * norms, last, stats.abs() + 0.2, points, training, 1e-4


def pooling_gradient_case(points: int, rows: int, segments: int, channels: int, kind: str, dtype: torch.dtype,
                          training: bool) -> Arguments:
    """Its gradient, from what the CPU's forward pass saves."""
    arguments = pooling_case(points, rows, segments, channels, kind, dtype, training)
    pooled, _, *saved = torch.ops.pc3d.asam_pool(*arguments)
    by_row, by_row_offsets, _ = torch.ops.pc3d.segment_group(arguments[1], rows + 1)
    grad = torch.randn(segments, 2 * channels, generator=seeded(9)).to(dtype)
    return grad, *arguments[:-3], pooled, *saved, by_row, by_row_offsets, *arguments[-3:]


def relation_case(boxes: int, waves: int, heads: int, dtype: torch.dtype) -> Arguments:
    """Boxes of at least a decimetre, and the weights of every wave and head."""
    shapes = (6, waves), (heads, 2 * waves), (heads,)
    return (torch.rand(boxes, 6, generator=seeded()).to(dtype) + 0.1,
            *(torch.randn(shape, generator=seeded(1 + i)).to(dtype) for i, shape in enumerate(shapes)))


def relation_gradient_case(boxes: int, waves: int, heads: int, dtype: torch.dtype) -> Arguments:
    """The gradient of its weights: where the bias is positive it goes through."""
    grad, out = torch.randn(2, heads, boxes, boxes, generator=seeded(5)).to(dtype)
    return grad, out, *relation_case(boxes, waves, heads, dtype)[:2]


def relative_case(heads: int, queries: int, keys: int, columns: int, by_key: bool, *, read: bool) -> Arguments:
    """Values and table columns of all pairs of queries and keys."""
    bins = torch.randint(0, columns, (3, queries, keys), generator=seeded()).short()
    if read:
        return torch.randn(heads, keys if by_key else queries, columns, generator=seeded(1)), bins, by_key
    return torch.randn(heads, queries, keys, generator=seeded(1)), bins, columns, by_key


def voxel_keys(count: int) -> Tensor:
    """Sorted keys of voxels in two grids of 16 x 16 x 16."""
    chosen = torch.randperm(2 * 16**3, generator=seeded())[:count].sort().values
    return pack_keys(torch.stack(torch.unravel_index(chosen, (2, 16, 16, 16)), 1))


def voxel_pairs(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of a 3x3x3 convolution."""
    keys = voxel_keys(count)
    pairs = kernel_map(keys, keys, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1))
    return pairs.in_rows, pairs.out_rows, pairs.tap_offsets


def convolution_case(voxels: int, into: int, out: int) -> Arguments:
    """A 3x3x3 convolution."""
    weight = torch.randn(out, 27, into, generator=seeded(2))
    return torch.randn(voxels, into, generator=seeded(1)), weight, *voxel_pairs(voxels), voxels


def weight_gradient_case(voxels: int, into: int, out: int) -> Arguments:
    """The gradient of its weight."""
    return (torch.randn(voxels, into, generator=seeded(1)), torch.randn(voxels, out, generator=seeded(2)),
            *voxel_pairs(voxels))


def run_op(op: str, arguments: Arguments, device: str) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of an op on a device, and the gradients of its floating arguments; all back on the CPU."""
    moved = [copy_to(device, argument) for argument in arguments]
    leaves = [a.requires_grad_() for a in moved if isinstance(a, Tensor) and a.is_floating_point() and op in DIFFERENTIABLE]
    result = getattr(torch.ops.pc3d, op)(*moved)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    smooth = [y for y in outputs if y.requires_grad]
    upstream = [torch.randn(y.shape, generator=seeded(3), dtype=y.dtype).to(device) for y in smooth]
    gradients = torch.autograd.grad(smooth, leaves, upstream, allow_unused=True) if leaves else ()
    return [y.cpu() for y in specified(op, arguments, outputs)], [g.cpu() for g in gradients if g is not None]


def copy_to(device: str, argument: Any) -> Any:
    """A copy of a tensor, or of the tensors of a list, on a device; anything else as it is."""
    if isinstance(argument, list):
        return [copy_to(device, part) for part in argument]
    return argument.detach().clone().to(device) if isinstance(argument, Tensor) else argument


def specified(op: str, arguments: Arguments, outputs: list[Tensor]) -> list[Tensor]:
    """The outputs as far as they mean anything: logits and gates of ASAM pooling end with the entries that are used."""
    if op != "asam_pool":
        return [y.detach() for y in outputs]
    used = int(arguments[4][-1])
    return [y.detach()[:, :used] if i in (5, 7) else y.detach() for i, y in enumerate(outputs)]


def is_double(op: str, arguments: Arguments) -> bool:
    """Whether an argument is float64. The weights of ASAM pooling always are; its rows, which come first, decide."""
    looked_at = arguments[:1] if op.startswith("asam_pool") else arguments
    return any(getattr(argument, "dtype", None) == torch.float64 for argument in looked_at)


def relative_error(got: list[Tensor], expected: list[Tensor]) -> float:
    """Largest difference of a number to the CPU's, in units of the largest number there; integers must be equal."""
    errors = [difference(a, b) / (max(1.0, float(b.nan_to_num().abs().max())) if b.numel() and b.is_floating_point() else 1.0)
              for a, b in zip(got, expected, strict=True)]
    return max(errors, default=0.0)


def compare_op(case: str, make: Callable[[], Arguments], device: str) -> Row:
    """One case on both devices, forward and backward, and twice on the second: a native kernel must repeat its bits."""
    op, arguments = case.split()[0], make()
    kernel = "native" if has_kernel(op, torch.device(device).type.upper()) else "reference"
    in_double = is_double(op, arguments)
    expected, got, again = (run_op(op, arguments, on) for on in ("cpu", device, device))
    forward, backward = relative_error(got[0], expected[0]), relative_error(got[1], expected[1])
    repeats = all(torch.equal(a.nan_to_num(), b.nan_to_num()) for one, two in zip(got, again) for a, b in zip(one, two))
    ok = max(forward, backward) <= TOLERANCE[in_double] and (repeats or kernel == "reference")
    numbers = {"kernel": kernel, "forward": forward, "backward": backward if expected[1] else None, "repeats": repeats}
    return Row(case, numbers, ok)


def compare_ops(device: str) -> Iterator[Row]:
    """Every case of every op; a case that raises is a failure with its message."""
    for case, make in op_cases().items():
        try:
            yield compare_op(case, make, device)
        except Exception as problem:  # whatever a kernel raises, the others are still to be tried
            yield Row(case, {"problem": f"{type(problem).__name__}: {problem}"}, False)


def make_batch(room: PointCloud, config: ModelConfig) -> PointBatch:
    """A room as the network takes it."""
    prepared = room if room.superpoints is not None and room.normals is not None else compute_superpoints(room)
    return collate([make_sample(prepared.replace(labels=None, instances=None), config)], config.backbone)


def run_network(batch: PointBatch, config: ModelConfig, device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """What the decoder says, and all gradients of its squares in one vector; weights come from seed 0."""
    torch.manual_seed(0)
    model = build_model(config).to(device, dtype).eval()
    moved = dataclasses.replace(batch, xyz=batch.xyz.to(dtype), features=batch.features.to(dtype)).to(device)
    (layer,) = model(moved).layers
    results = {"class logits": layer.class_logits, "scores": layer.scores, "centres": layer.centers, "masks": layer.masks[0]}
    sum((y.square().mean() for y in results.values()), torch.zeros((), device=device)).backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return {name: y.detach().cpu().double() for name, y in {**results, "gradients": torch.cat(gradients)}.items()}


def compare_network(device: str, room: PointCloud | None = None) -> Iterator[Row]:
    """The whole network on both devices.

    In float64 the largest difference counts. In float32 a mask logit may fall on the other side of a threshold, which
    changes a box and with it many numbers a little; so the median difference counts.
    """
    config: ModelConfig = build_config(ModelConfig, NETWORK, where="gpu_check")
    batch = make_batch(io.read(ROOM) if room is None else room, config)
    for dtype, tolerance, measure in ((torch.float64, 1e-7, torch.max), (torch.float32, 1e-3, torch.median)):
        expected, got = (run_network(batch, config, on, dtype) for on in ("cpu", device))
        for name, y in expected.items():
            error = float(measure((got[name] - y).abs()) / y.abs().max().clamp(min=1e-30))
            yield Row(f"{name}, {str(dtype)[6:]}", {"error": error, "tolerance": tolerance}, error <= tolerance)


def median_ms(call: Callable[[], object], device: str, repeats: int) -> float:
    """Median milliseconds of a call, after one to warm up, with the device idle before and after."""
    def wait() -> None:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)

    call()
    times = []
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def race(what: str, ours: Callable[[], object], theirs: Callable[[], object], device: str, repeats: int) -> Row:
    """Milliseconds of our way and of plain torch's."""
    mine, plain = median_ms(ours, device, repeats), median_ms(theirs, device, repeats)
    return Row(what, {"pc3d ms": mine, "torch ms": plain, "times faster": plain / mine})


@torch.no_grad()
def benchmark(device: str, *, sizes: tuple[int, ...] = (100_000, 1_000_000), repeats: int = 20) -> Iterator[Row]:
    """Segment sums and maxima against index_add and scatter_reduce, and relative lookups against gather and scatter_add."""
    for count in sizes:
        for skewed in (False, True):
            index, segments = segment_ids(count, count // 100, skewed=skewed).to(device), count // 100
            x = torch.randn(count, 32, generator=seeded()).to(device)
            groups, wide, empty = group_segments(index, segments), index[:, None].expand(-1, 32), x.new_zeros(segments, 32)
            about = f"of {count:,} rows of 32{', 99 % in one segment' if skewed else ''}"
            alone = median_ms(lambda i=index, s=segments: group_segments(i, s), device, repeats)
            yield Row(f"grouping {about}", {"pc3d ms": alone})
            yield race(f"sum {about}", lambda x=x, g=groups: torch.ops.pc3d.segment_sum(x, *g),
                       lambda x=x, i=index, e=empty: e.index_add(0, i, x), device, repeats)
            yield race(f"max {about}", lambda x=x, g=groups: torch.ops.pc3d.segment_max(x, *g),
                       lambda x=x, w=wide, e=empty: e.scatter_reduce(0, w, x, "amax", include_self=False), device, repeats)
    queries, keys = min(400, sizes[0]), min(1500, sizes[0])
    rows, bins = (a.to(device) for a in relative_case(8, queries, keys, 144, False, read=True)[:2])
    weights = torch.randn(8, queries, keys, generator=seeded()).to(device)
    yield race(f"relative_read of 8x{queries}x{keys}", lambda: relative_read(rows, bins, by_key=False),
               lambda: REFERENCES["relative_read"](rows, bins, False), device, repeats)
    yield race(f"relative_add of 8x{queries}x{keys}", lambda: relative_add(weights, bins, 144, by_key=False),
               lambda: REFERENCES["relative_add"](weights, bins, 144, False), device, repeats)
