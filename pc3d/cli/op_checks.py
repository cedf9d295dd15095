"""Every op on a tiny input: what the dispatcher runs here against the reference, value by value."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class OpProof:
    """What came of one op: where it has kernels and how far they are from the reference."""

    name: str
    cpu: str              # "native" or "reference"
    cuda: str             # "native", "reference" or "none" without a GPU
    ok: bool
    max_error: float      # largest difference to the reference over all outputs
    milliseconds: float
    problem: str | None = None


def _points(generator: torch.Generator, count: int = 40) -> Tensor:
    return torch.rand(count, 3, generator=generator)


def _units(generator: torch.Generator) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(40, 3, generator=generator), dim=1)


def _bins(generator: torch.Generator) -> Tensor:
    """Table columns of 5 queries and 7 keys, per axis."""
    return torch.randint(0, 12, (3, 5, 7), generator=generator).short()


def _faces(generator: torch.Generator) -> Tensor:
    return torch.stack([torch.randperm(40, generator=generator)[:3] for _ in range(60)])


def _edges(generator: torch.Generator) -> Tensor:
    start = torch.arange(39)
    return torch.stack([start, start + 1], dim=1)


def _keys(generator: torch.Generator) -> Tensor:
    """Sorted keys of the taken cells of two 6x6x6 grids."""
    from pc3d.ops.sparse_map import pack_keys

    return pack_keys(torch.nonzero(torch.rand(2, 6, 6, 6, generator=generator) < 0.3)).sort().values


def _pairs(generator: torch.Generator) -> tuple[int, Tensor, Tensor, Tensor]:
    """Number of voxels and the pairs of rows of a 3x3x3 convolution over them."""
    from pc3d.ops.sparse_map import kernel_map

    keys = _keys(generator)
    found = kernel_map(keys, keys, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1))
    return len(keys), found.in_rows, found.out_rows, found.tap_offsets


def _convolution(generator: torch.Generator) -> tuple[Any, ...]:
    count, *pairs = _pairs(generator)
    weight = torch.randn(7, 27, 5, generator=generator)
    return torch.randn(count, 5, generator=generator), weight, *pairs, count


def _convolution_in_one_pass(generator: torch.Generator) -> tuple[Any, ...]:
    x, weight, *pairs, count = _convolution(generator)
    residual, norms = torch.randn(count, 7, generator=generator), torch.randn(2, 2, 7, generator=generator)
    return [x[:, :2].contiguous(), x[:, 2:].contiguous()], weight, None, *pairs, count, residual, [*norms[0]], [*norms[1]], True


def _weight_gradient(generator: torch.Generator) -> tuple[Any, ...]:
    count, *pairs = _pairs(generator)
    return torch.randn(count, 5, generator=generator), torch.randn(count, 7, generator=generator), *pairs


def _tiled_convolution(generator: torch.Generator) -> tuple[Any, ...]:
    """The same in tiles of 64 outputs, without tf32."""
    from pc3d.ops.sparse_map import KernelMap
    from pc3d.ops.sparse_tiles import make_tiles

    x, weight, in_rows, out_rows, tap_offsets, count = _convolution(generator)
    return x, weight, *make_tiles(KernelMap(in_rows, out_rows, tap_offsets, count, count), 64), count, False


def _segments(generator: torch.Generator) -> tuple[Tensor, ...]:
    """Rows and how they group into segments, one of them empty."""
    from pc3d.ops.segment import group_segments

    return torch.randn(40, 5, generator=generator), *group_segments(torch.randint(0, 6, (40,), generator=generator), 7)


def _pooling(generator: torch.Generator) -> tuple[Any, ...]:
    """ASAM pooling of 40 points into 7 superpoints, one of them empty, in training."""
    from pc3d.ops._library import REFERENCES

    entries = REFERENCES["asam_entries"](torch.arange(40), torch.randint(0, 6, (40,), generator=generator), 40, 7)
    shapes = ((2, 2, 5, 5), (2, 2, 3, 5), (2, 6), (2, 2, 2, 5))
    weights = [torch.randn(*shape, generator=generator).double() for shape in shapes]
    return torch.randn(40, 5, generator=generator), *entries, *weights, 40, True, 1e-4


def _pooling_gradient(generator: torch.Generator) -> tuple[Any, ...]:
    from pc3d.ops._library import REFERENCES

    arguments = _pooling(generator)
    pooled, _, *saved = REFERENCES["asam_pool"](*arguments)
    by_row, by_row_offsets, _ = REFERENCES["segment_group"](arguments[1], 41)
    return torch.randn(7, 10, generator=generator), *arguments[:-3], pooled, *saved, by_row, by_row_offsets, *arguments[-3:]


def _boxes(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Boxes of 7 queries, and a Fourier matrix of 4 waves."""
    return torch.rand(7, 6, generator=generator), torch.randn(6, 4, generator=generator)


def _relation_gradient(generator: torch.Generator) -> tuple[Tensor, ...]:
    return *torch.randn(2, 3, 7, 7, generator=generator), *_boxes(generator)


def _attention(generator: torch.Generator) -> tuple[Any, ...]:
    """5 queries and 7 keys of 2 heads with 4 channels, 2 G = 6 bins per axis; the first key is blocked."""
    rows = [torch.randn(count, width, generator=generator)
            for count, width in ((5, 8), (5, 8), (5, 3), (7, 8), (7, 8), (7, 8), (7, 3))]
    return *rows, *torch.randn(3, 2, 4, 18, generator=generator), 0.4, (torch.arange(7) == 0).expand(5, 7)


def _frames(generator: torch.Generator) -> tuple[Any, ...]:
    """40 points in three blocks of two owners; two frames where half are where depth says, with two layers of five masks."""
    xyz = torch.rand(3, 40, generator=generator) - torch.tensor([[0.5], [0.5], [-1.0]])
    boxes = torch.tensor([[0.0], [0.0], [1.5], [0.5], [0.5], [0.5]]).repeat(1, 3)
    camera = torch.tensor([8.0, 8.0, 8.0, 6.0, 16.0, 12.0, -1.0, 1.0, -0.75, 0.75, 0.0, 0.0, 0.0])
    masks = [*torch.randint(0, 6, (2, 2, 12, 16), generator=generator).short()]
    return (xyz, torch.tensor([0, 15, 30, 40]), torch.tensor([4, 4, 1], dtype=torch.int32), boxes,
            torch.arange(40, dtype=torch.int32) // 5, [torch.eye(4)[:3]] * 2, [torch.full((12, 16), d) for d in (1.5, 1.3)],
            [camera] * 2, masks, [camera] * 2, [5, 5], [0.25, 0.25], 0.05, 0.0, 0.2, 5)


def _matching(generator: torch.Generator) -> tuple[Tensor, ...]:
    """6 predictions and 4 true instances of 3 classes, at two thresholds; the last true one does not count."""
    labels, truth = torch.arange(6) % 3, torch.arange(4) % 3
    iou = torch.rand(6, 4, generator=generator).double() * (labels[:, None] == truth)
    return (iou, torch.rand(6, generator=generator).double(), labels, torch.rand(6, generator=generator).double(), truth,
            torch.arange(4) < 3, torch.tensor([0.25, 0.5], dtype=torch.float64))


def _instances(generator: torch.Generator) -> tuple[Any, ...]:
    """Points of 4 instances and none in 5 superpoints."""
    points = _points(generator)
    ids = torch.randint(0, 5, (2, len(points)), generator=generator)
    return ids[0] - 1, ids[1], points, 4, 5


def _shared(generator: torch.Generator) -> tuple[Any, ...]:
    """5 masks over 12 segments of 40 points with 4 numbers."""
    return (torch.randint(0, 256, (5, 2), generator=generator).byte(), torch.randint(0, 12, (40,), generator=generator),
            torch.randint(0, 4, (40,), generator=generator), 12, 4)


def _rows(generator: torch.Generator, count: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sparse rows of small numbers."""
    dense = torch.randint(0, 3, (count, width), generator=generator) * torch.randint(0, 30, (count, width), generator=generator)
    row, column = dense.nonzero().T
    return torch.searchsorted(row, torch.arange(count + 1)), column.int(), dense[row, column].int()


def _testimony(generator: torch.Generator) -> tuple[Any, ...]:
    """9 masks of 3 frames over 8 superpoints."""
    counts, visible = _rows(generator, 9, 8), (8 * torch.arange(4), torch.arange(24, dtype=torch.int32) % 8,
                                               torch.randint(9, 30, (24,), generator=generator, dtype=torch.int32))
    return *counts, counts[2] > 3, *visible, torch.arange(9) // 3, 8, 0.1, 5.0, 0.3, 0.7


def _clusters(generator: torch.Generator) -> tuple[Any, ...]:
    """9 masks with 12 holders of 5 frames."""
    return *_rows(generator, 9, 12)[:2], torch.arange(12) * 5 // 12, 5, torch.arange(95, -1, -5), 0.8


def _links(generator: torch.Generator) -> tuple[Any, ...]:
    """500 points of 20 segments, in 5 cells along each axis."""
    return torch.rand(3, 500, generator=generator), torch.randint(0, 20, (500,), generator=generator).sort().values, 20, 0.2


def _dots(generator: torch.Generator) -> tuple[Any, ...]:
    """30 pairs of 9 rows of 12 columns."""
    starts, columns, counts = _rows(generator, 9, 12)
    return starts, columns, counts.double(), 12, *torch.randint(0, 9, (2, 30), generator=generator)


def _parts(generator: torch.Generator) -> tuple[Any, ...]:
    """6 sets of the segments of ``_links``."""
    xyz, segment, count, side = _links(generator)
    return xyz, segment, *_rows(generator, 6, count)[:2], count, side


def _views(generator: torch.Generator) -> tuple[Any, ...]:
    """9 masks of 3 frames over 8 superpoints, some of them tracked."""
    tracks = torch.arange(9) % 4 - 1
    return *_rows(generator, 9, 8), *_rows(generator, 3, 8), torch.arange(9) // 3, tracks, 8, 5.0, 0.4, 0.8, 0.2


def _sums(generator: torch.Generator) -> tuple[Any, ...]:
    """6 rows of counts over 8 pieces of 3 owners, in 4 sets."""
    sets, counts, pairs = (_rows(generator, *shape) for shape in ((4, 6), (6, 8), (4, 3)))
    return *sets[:2], *counts, *pairs[:2], torch.tensor([5, 0, 2]), torch.tensor([3, 2, 3])


def _affinities(generator: torch.Generator) -> tuple[Any, ...]:
    """A graph of 12 regions of which most pairs touch."""
    touch = torch.rand(12, 12, generator=generator).triu(1)
    touch = touch + touch.T
    row, neighbor = (touch > 0.4).nonzero().T
    starts = torch.searchsorted(row, torch.arange(13))
    return starts, neighbor.int(), touch[row, neighbor].double(), torch.arange(1, 13).double(), 0.7, 0.5


def _counts(generator: torch.Generator) -> tuple[list[Tensor], Tensor, Tensor, int]:
    """Of two frames, the points of nine superpoints that each of five masks holds."""
    frames = [(torch.rand(9, 5, generator=generator) < 0.5).nonzero().flip(0) + torch.tensor([0, 1]) for _ in range(2)]
    entries = torch.cat(frames)
    table = torch.cat([entries, torch.randint(1, 30, (len(entries), 1), generator=generator)], 1).int()
    return [table], torch.tensor([len(frame) for frame in frames]), torch.tensor([5, 5]), 9


#: Op -> the arguments it is proven on.
CHECKS: dict[str, Callable[[torch.Generator], tuple[Any, ...]]] = {
    "knn": lambda g: (_points(g), 4),
    "vertex_normals": lambda g: (_points(g), _faces(g)),
    "mesh_graph": lambda g: (_points(g), _faces(g)),
    "estimate_normals": lambda g: (_points(g), torch.randint(0, 40, (40, 8), generator=g)),
    "orient_normals": lambda g: (_points(g), _units(g), torch.randint(0, 40, (40, 6), generator=g), torch.zeros(3)),
    "mask_boxes": lambda g: (torch.randn(5, 40, generator=g) - 1, _points(g)),
    "asam_entries": lambda g: (torch.randint(0, 30, (40,), generator=g), torch.randint(0, 6, (40,), generator=g), 30, 7),
    "asam_pool": _pooling,
    "asam_pool_grad": _pooling_gradient,
    "relation_bias": lambda g: (*_boxes(g), torch.randn(3, 8, generator=g), torch.randn(3, generator=g)),
    "relation_bias_grad": _relation_gradient,
    "relative_attention": _attention,
    "relative_read": lambda g: (torch.randn(2, 5, 12, generator=g), _bins(g), False),
    "relative_add": lambda g: (torch.randn(2, 5, 7, generator=g), _bins(g), 12, True),
    "segment_group": lambda g: (torch.randint(0, 6, (40,), generator=g), 7),
    "segment_sum": _segments,
    "segment_max": _segments,
    "segment_expand": lambda g: (torch.randn(7, 5, generator=g), *_segments(g)[1:]),
    "sparse_kernel_map": lambda g: (*[_keys(g)] * 2, [3, 3, 3], [1, 1, 1], [1, 1, 1]),
    "sparse_coarse_keys": lambda g: (_keys(g), [2, 2, 2], [2, 2, 2], [0, 0, 0], [3, 3, 3]),
    "sparse_conv": _convolution,
    "sparse_conv_norm_relu": _convolution_in_one_pass,
    "sparse_conv_weight_grad": _weight_gradient,
    "sparse_conv_tiled": _tiled_convolution,
    "sparse_conv_tiled_weight_grad": lambda g: (*_weight_gradient(g), False),
    "felzenszwalb": lambda g: (_edges(g).int(), torch.rand(39, generator=g), 40, 0.3, 2, True),
    "lift_vote": _frames,
    "grow_regions": _affinities,
    "elastic": lambda g: (4 * _points(g) - 2, torch.randn(3, 5, 4, 3, generator=g), 0.7, 0.3),
    "voxel_ids": lambda g: (4 * _points(g),),
    "column_stats": lambda g: (_points(g),),
    "map_points": lambda g: (_points(g), torch.rand(3, generator=g), torch.randn(3, 3, generator=g)),
    "unit_normals": lambda g: ((254 * _points(g) - 127).char(),),
    "instance_rows": lambda g: (*torch.randint(-1, 5, (2, 40), generator=g), 4, True),
    "point_features": lambda g: ((255 * _points(g)).byte(), _points(g), _points(g), torch.rand(3, generator=g)),
    "instance_sums": _instances,
    "shared_counts": _shared,
    "mask_testimony": _testimony,
    "mask_clusters": _clusters,
    "merge_views": _views,
    "piece_sums": _sums,
    "grid_links": _links,
    "grid_parts": _parts,
    "frame_rows": _counts,
    "scan_layout": lambda g: (_points(g), torch.randint(0, 6, (40,), generator=g), 5, 2),
    "row_dots": _dots,
    "match_instances": _matching,
}


def prove_ops() -> list[OpProof]:
    """Run every op that pc3d defines, on the CPU and on the GPU when there is one."""
    from pc3d import ops
    from pc3d.ops._library import REFERENCES

    for module in iter_modules(ops.__path__):  # an op is defined when its module is imported
        import_module(f"{ops.__name__}.{module.name}")
    return [prove(name) for name in sorted(REFERENCES)]


def prove(name: str) -> OpProof:
    """Run one op and its reference on the same tiny input."""
    from pc3d.ops._library import REFERENCES, has_kernel

    cpu = "native" if has_kernel(name) else "reference"
    cuda = "none" if not torch.cuda.is_available() else "native" if has_kernel(name, "CUDA") else "reference"
    if name not in CHECKS:
        return OpProof(name, cpu, cuda, False, float("nan"), 0.0, "not proven: no entry in pc3d/cli/op_checks.py")
    try:
        arguments = CHECKS[name](torch.Generator().manual_seed(0))
        op = getattr(torch.ops.pc3d, name)
        expected = REFERENCES[name](*arguments)
        start = time.perf_counter()
        error = difference(op(*arguments), expected)
        milliseconds = 1e3 * (time.perf_counter() - start)
        if cuda == "native":
            on_gpu = [a.cuda() if isinstance(a, Tensor) else a for a in arguments]
            error = max(error, difference(op(*on_gpu), expected))
    except Exception as problem:  # a broken kernel can raise anything, and doctor must go on
        return OpProof(name, cpu, cuda, False, float("nan"), 0.0, f"{type(problem).__name__}: {problem}")
    return OpProof(name, cpu, cuda, error < 1e-4, error, milliseconds, None if error < 1e-4 else "differs from the reference")


def difference(got: Any, expected: Any) -> float:
    """Largest absolute difference between two outputs of an op; infinite where shapes or NaNs differ."""
    if isinstance(expected, tuple | list):
        return max((difference(a, b) for a, b in zip(got, expected, strict=True)), default=0.0)
    if not isinstance(expected, Tensor):
        return abs(float(got) - float(expected))
    got = got.cpu()
    if got.shape != expected.shape or not torch.equal(got.isnan(), expected.isnan()):
        return float("inf")
    return float((got.double() - expected.double()).nan_to_num().abs().max()) if got.numel() else 0.0
