"""Sparse convolution on another device: compared with float64 on the CPU, and timed against spconv and plain torch.

Used by ``gpu_check.py`` and ``tests/gpu``; the device is an argument, so that all of it runs, and is tested, without a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise

import torch
from gpu_comparisons import Row, median_ms, seeded
from torch import Tensor, nn

from pc3d.bench.scene import make_scene, voxel_coords
from pc3d.config import BackboneConfig
from pc3d.nn import sparse
from pc3d.nn.unet import UNet
from pc3d.ops.sparse_conv import sparse_conv
from pc3d.ops.sparse_map import KernelMap, coarse_keys, kernel_map, pack_keys

#: Type of the numbers, tf32 or not -> largest difference to float64 in units of the largest number.
KINDS = {(torch.float64, False): 1e-12, (torch.float32, False): 1e-5, (torch.float32, True): 2e-3,
         (torch.float16, False): 2e-3, (torch.bfloat16, False): 1.6e-2}
CUBE = {"kernel_size": (3, 3, 3), "stride": (1, 1, 1), "padding": (1, 1, 1)}
DOWN = {"kernel_size": (2, 2, 2), "stride": (2, 2, 2), "padding": (0, 0, 0)}
SIDE = 64  # voxels per axis of the grids compared on
#: Type -> largest difference of a whole network's results or gradients between two ways, relative, in the 2-norm. A training
#: step in few digits may come to differ by more though both ways are right, since gates of ReLUs flip: on the CPU plain torch
#: differed from itself in float32 by 0.16 in tf32 and 0.65 in bfloat16 (scene S, 2026-11-29). Not yet seen on a GPU.
UNET_KINDS = {(torch.float32, False): 1e-3, (torch.float32, True): 2e-2, (torch.float16, False): 5e-2,
              (torch.bfloat16, False): 2e-1}


def some_keys(count: int) -> Tensor:
    """Sorted keys of ``count`` voxels of two grids."""
    chosen = torch.randperm(2 * SIDE**3, generator=seeded())[:count].sort().values
    return pack_keys(torch.stack(torch.unravel_index(chosen, (2, SIDE, SIDE, SIDE)), 1))


def make_map(kind: str, count: int, device: str) -> KernelMap:
    """The map of a 3x3x3 convolution (cube), of a 2x2x2 one at stride 2 (down), or back (up), made on the device."""
    keys = some_keys(count).to(device)
    if kind == "cube":
        return kernel_map(keys, keys, **CUBE)
    down = kernel_map(coarse_keys(keys, **DOWN, shape=(SIDE // 2,) * 3), keys, **DOWN)
    return down if kind == "down" else down.swapped()


def compare_maps(device: str) -> Iterator[Row]:
    """Maps made on both devices are equal, pair by pair."""
    for kind in ("cube", "down", "up"):
        for count in (0, 1, 500, 200_000):
            maps = [make_map(kind, count, on) for on in ("cpu", device)]
            same = all(torch.equal(getattr(maps[0], name), getattr(maps[1], name).cpu())
                       for name in ("in_rows", "out_rows", "tap_offsets"))
            yield Row(f"map {kind} of {count:,}", {"pairs": float(len(maps[0].in_rows))}, same)


def convolution_cases() -> Iterator[tuple[str, int, int, int]]:
    """Kind of map, voxels, channels in and out: channels that fill no tile, none and one voxel, both sizes of tiles."""
    yield from (("cube", 0, 8, 8), ("cube", 1, 8, 8), ("cube", 500, 7, 13), ("cube", 900, 70, 23), ("cube", 3000, 9, 32),
                ("down", 2000, 23, 40), ("up", 2000, 40, 23), ("cube", 40_000, 32, 64), ("down", 200_000, 32, 48))


def compare_convolutions(device: str) -> Iterator[Row]:
    """Forward, both gradients, in every type, against float64 on the CPU, and twice to see the same bits."""
    for kind, count, channels, width in convolution_cases():
        for (dtype, tf32), tolerance in KINDS.items():
            name = f"{kind} of {count:,}, {channels} to {width}, {'tf32' if tf32 else str(dtype)[6:]}"
            try:
                yield compare_convolution(name, kind, count, channels, width, dtype, tf32, tolerance, device)
            except Exception as problem:  # whatever a kernel raises, the others are still to be tried
                yield Row(name, {"problem": f"{type(problem).__name__}: {problem}"}, False)


def compare_convolution(name: str, kind: str, count: int, channels: int, width: int, dtype: torch.dtype, tf32: bool,
                        tolerance: float, device: str) -> Row:
    """One case: three differences and whether the bits repeat."""
    maps = {on: make_map(kind, count, on) for on in ("cpu", device)}
    pairs = maps["cpu"]
    shapes = (pairs.num_in, channels), (width, pairs.num_taps, channels), (pairs.num_out, width)
    x, weight, upstream = (torch.randn(shape, generator=seeded(i)).to(dtype) for i, shape in enumerate(shapes))
    expected = gradients(x.double(), weight.double(), upstream.double(), pairs)
    with tf32_allowed(tf32):
        got, again = (gradients(*(t.to(device) for t in (x, weight, upstream)), maps[device]) for _ in range(2))
    errors = [float((a.cpu().double() - b).abs().max() / b.abs().max().clamp(min=1e-30)) if b.numel() else 0.0
              for a, b in zip(got, expected)]
    repeats = all(torch.equal(a, b) for a, b in zip(got, again))
    numbers = dict(zip(("forward", "to x", "to weight"), errors))
    return Row(name, {**numbers, "tolerance": tolerance, "repeats": repeats}, max(errors) <= tolerance and repeats)


def gradients(x: Tensor, weight: Tensor, upstream: Tensor, pairs: KernelMap) -> tuple[Tensor, Tensor, Tensor]:
    """A convolution, and its gradients to x and weight."""
    x, weight = x.detach().clone().requires_grad_(), weight.detach().clone().requires_grad_()
    y = sparse_conv(x, weight, pairs)
    return (y.detach(), *torch.autograd.grad(y, (x, weight), upstream))


@contextmanager
def tf32_allowed(allowed: bool) -> Iterator[None]:
    """Float32 products through tf32, or exact."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32" if allowed else "ieee"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def compare_large(device: str, voxels: int = 10_000_000, channels: int = 256) -> Row:
    """A map of many voxels, and numbers past 2^31: rows from all over against sums of their own pairs in float64."""
    side = math.ceil((voxels / 10) ** 0.5)
    index = torch.arange(voxels, device=device)
    keys = pack_keys(torch.stack([index * 0, index // (10 * side), index // 10 % side, index % 10], 1))
    pairs = kernel_map(keys, keys, **CUBE)
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(voxels, channels, generator=generator, dtype=torch.float16, device=device)
    weight = torch.randn(8, 27, channels, generator=generator, dtype=torch.float16, device=device)
    y, back = sparse_conv(x, weight, pairs), sparse_conv(x[:, :8].contiguous(), weight.permute(2, 1, 0), pairs)
    rows = torch.cat([torch.randint(0, voxels, (64,), generator=generator, device=device), index[-8:]]).unique()
    wanted = torch.zeros(len(rows), 8 + channels, dtype=torch.float64, device=device)
    for tap, (begin, end) in enumerate(pairwise(pairs.tap_offsets.tolist())):
        outputs = pairs.out_rows[begin:end].long()  # ascending within a tap
        at = torch.searchsorted(outputs, rows).clamp_(max=max(end - begin - 1, 0))
        hit = outputs[at] == rows
        into = x[pairs.in_rows[begin:end].long()[at[hit]]].double()
        wanted[hit] += torch.cat([into @ weight[:, tap].double().t(), into[:, :8] @ weight[:, tap].double()], 1)
    got = torch.cat([y[rows], back[rows]], 1).double()
    error = float((got - wanted).abs().max() / wanted.abs().max())
    return Row(f"{voxels:,} voxels, {channels} channels", {"pairs": float(len(pairs.in_rows)), "forward": error}, error <= 2e-3)


def compare_all(device: str) -> Iterator[Row]:
    """Every comparison of this module; the large one where memory allows."""
    yield from compare_maps(device)
    yield from compare_convolutions(device)
    if torch.device(device).type == "cuda" and torch.cuda.mem_get_info()[0] > 40e9:
        yield compare_large(device)


class OffsetProducts:
    """The way without any library: per tap gather the rows, ``torch.mm``, add. Stands in for sparse_conv."""

    def __init__(self) -> None:
        self.bounds: dict[Tensor, list[int]] = {}  # read from the device once a map, as tiles are made once a map

    def __call__(self, x: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
        if pairs.tap_offsets not in self.bounds:
            self.bounds[pairs.tap_offsets] = pairs.tap_offsets.tolist()
        y = x.new_zeros(pairs.num_out, weight.shape[0])
        for tap, (begin, end) in enumerate(pairwise(self.bounds[pairs.tap_offsets])):
            y.index_add_(0, pairs.out_rows[begin:end], x[pairs.in_rows[begin:end]] @ weight[:, tap].t())
        return y


def unet_ways() -> dict[str, tuple[str, Callable[..., Tensor] | None]]:
    """Name -> engine, and what takes the place of sparse_conv; spconv where it is installed."""
    ways: dict[str, tuple[str, Callable[..., Tensor] | None]] = {"pc3d": ("native", None),
                                                                 "torch": ("native", OffsetProducts())}
    return {**ways, "spconv": ("spconv", None)} if find_spec("spconv") else ways


@contextmanager
def convolving_with(convolve: Callable[..., Tensor] | None) -> Iterator[None]:
    """Put another function in the place of sparse_conv."""
    before = sparse.sparse_conv
    sparse.sparse_conv = convolve or before
    try:
        yield
    finally:
        sparse.sparse_conv = before


def benchmark_unet(device: str, *, channels: tuple[int, ...] = (32, 64, 96, 128, 160), repeats: int = 20,
                   scene: Tensor | None = None) -> Iterator[Row]:
    """The U-Net of Relation3D on scene S, maps included: forward pass and training step of pc3d, spconv and plain torch."""
    coords = torch.from_numpy(voxel_coords(make_scene())) if scene is None else scene
    shape = [max(int(n), 128) for n in coords[:, 1:].amax(0) + 1]
    for (dtype, tf32), tolerance in UNET_KINDS.items():
        kind = "tf32" if tf32 else str(dtype)[6:]
        for training in (False, True):
            times: dict[str, float | str | bool | None] = {}
            results: dict[str, Tensor] = {}
            for way, (engine, convolve) in unet_ways().items():
                with tf32_allowed(tf32), convolving_with(convolve):
                    try:
                        run = unet_run(engine, coords.to(device), shape, channels, dtype, training, convolve is not None)
                        results[way] = run().detach().cpu().double()
                        times[f"{way} ms"] = median_ms(run, device, repeats)
                    except Exception as problem:  # spconv has no bfloat16 on some builds: the others are still of interest
                        times[f"{way} problem"] = f"{type(problem).__name__}: {problem}"[:80]
            yield unet_row(f"{'training step' if training else 'forward'}, {kind}", times, results, tolerance)


def unet_run(engine: str, coords: Tensor, shape: list[int], channels: tuple[int, ...], dtype: torch.dtype,
             training: bool, replaced: bool) -> Callable[[], Tensor]:
    """A function that runs the network once, from coordinates on; weights come from seed 0."""
    torch.manual_seed(0)
    network: nn.Module = UNet(9, BackboneConfig(channels=channels, engine=engine)).to(coords.device, dtype).train(training)
    if replaced:  # a hook keeps the network from the one pass of inference, which does not ask sparse_conv
        network.register_forward_pre_hook(lambda module, arguments: None)
    features = torch.randn(len(coords), 9, generator=seeded()).to(coords.device, dtype)
    upstream = 0.05 * torch.randn(len(coords), channels[0], generator=seeded(1)).to(coords.device)  # float16 holds its sums

    def forward() -> Tensor:
        with torch.no_grad():
            y: Tensor = network(features, coords, shape, 1)
        return y

    def step() -> Tensor:
        network.zero_grad(set_to_none=True)
        y: Tensor = network(features, coords, shape, 1)
        (y.float() * upstream).sum().backward()
        return torch.cat([p.grad.flatten().float() for p in network.parameters() if p.grad is not None])

    return step if training else forward


def unet_row(what: str, times: dict[str, float | str | bool | None], results: dict[str, Tensor], tolerance: float) -> Row:
    """Times side by side, how much faster than the best other, and the relative difference (2-norm) between the results."""
    mine, peers = times.get("pc3d ms"), [time for name, time in times.items() if name in ("torch ms", "spconv ms")]
    if not isinstance(mine, float):
        return Row(what, times, False)
    best = min((float(peer) for peer in peers if peer is not None), default=math.nan)
    differences = [float((y - results["pc3d"]).norm() / results["pc3d"].norm()) for y in results.values()]
    numbers = {**times, "times faster": best / mine, "difference": max(differences), "tolerance": tolerance}
    return Row(what, numbers, max(differences) <= tolerance)
