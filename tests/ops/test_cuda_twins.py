"""The bodies of the CUDA kernels of sparse convolution, run on the CPU thread by thread, give what the references say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pc3d.ops import sparse_conv as conv_module
from pc3d.ops import sparse_map as map_module
from pc3d.ops._library import native_error
from pc3d.ops.sparse_map import KernelMap, coarse_keys, conv_shape, kernel_map, pack_keys
from pc3d.ops.sparse_tiles import make_tiles, tiles_of

pytestmark = pytest.mark.skipif(native_error() is not None, reason="the native library was not built")
CUBE, DOWN = [[3] * 3, [1] * 3, [1] * 3], [[2] * 3, [2] * 3, [0] * 3]  # kernel size, stride, padding
GEOMETRIES = [CUBE, DOWN, [[2] * 3, [1] * 3, [0] * 3], [[1, 3, 5], [1] * 3, [0, 1, 2]], [[3] * 3, [2] * 3, [1] * 3],
              [[5, 2, 3], [3, 1, 2], [2, 0, 1]]]
GRID = (9, 7, 11)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_keys(count: int) -> Tensor:
    """Sorted keys of voxels in two scans."""
    chosen = torch.randperm(2 * math.prod(GRID), generator=torch.Generator().manual_seed(0))[:count].sort().values
    return pack_keys(torch.stack(torch.unravel_index(chosen, (2, *GRID)), 1))


def coarse_shape(geometry: list[list[int]]) -> list[int]:
    kernel, stride, padding = (tuple(sizes) for sizes in geometry)
    return list(conv_shape(GRID, kernel_size=kernel, stride=stride, padding=padding))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 300])
def test_maps_are_those_of_the_reference(geometry: list[list[int]], count: int) -> None:
    keys, shape = some_keys(count), coarse_shape(geometry)
    coarse = torch.ops.pc3d.twin_sparse_coarse_keys(keys, *geometry, shape)
    assert torch.equal(coarse, map_module._coarse_keys_reference(keys, *geometry, shape))
    for out in (coarse, keys, keys.clone()):  # the clone is not seen to be the same sites: nothing is mirrored
        found = torch.ops.pc3d.twin_sparse_kernel_map(out, keys, *geometry)
        expected = map_module._kernel_map_reference(out, keys, *geometry)
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(found, expected, strict=True))


def test_maps_between_few_voxels_and_many_that_lie_far_apart() -> None:
    many = pack_keys(torch.cartesian_prod(torch.arange(3), torch.arange(40), torch.arange(2), torch.arange(30)))
    few = many[[0, 17, 5000, -1]]
    for out, into in ((few, many), (many, few)):
        found = torch.ops.pc3d.twin_sparse_kernel_map(out, into, *CUBE)
        expected = map_module._kernel_map_reference(out, into, *CUBE)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("bad", [some_keys(50).flip(0), some_keys(50)[[0, 1, 1]]], ids=["unsorted", "one twice"])
def test_keys_that_are_not_sorted_and_unique_are_refused(bad: Tensor) -> None:
    good = some_keys(3)
    for out, into in ((bad, good), (good, bad), (bad, bad)):
        with pytest.raises((RuntimeError, ValueError), match="sorted and unique"):
            torch.ops.pc3d.twin_sparse_kernel_map(out, into, *CUBE)
    with pytest.raises((RuntimeError, ValueError), match="sorted and unique"):
        torch.ops.pc3d.twin_sparse_coarse_keys(bad, *DOWN, list(GRID))


def a_map(count: int, geometry: list[list[int]]) -> KernelMap:
    keys = some_keys(count)
    kernel, stride, padding = (tuple(sizes) for sizes in geometry)
    sizes = {"kernel_size": kernel, "stride": stride, "padding": padding}
    coarse = keys if stride == (1, 1, 1) else coarse_keys(keys, **sizes, shape=tuple(coarse_shape(geometry)))
    return kernel_map(coarse, keys, **sizes)


def close(value: Tensor, expected: Tensor, dtype: torch.dtype, *, tf32: bool = False) -> bool:
    """Within rounding of what float64 says of the same numbers."""
    tolerance = {torch.float64: 1e-13, torch.float32: 2e-3 if tf32 else 4e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    assert value.dtype == dtype
    assert value.shape == expected.shape
    return value.numel() == 0 or bool((value.double() - expected).abs().max() <= tolerance * expected.abs().max())


MAPS = {"cube": (300, CUBE), "down": (900, DOWN), "flat": (200, GEOMETRIES[3]), "strided": (300, GEOMETRIES[4]),
        "one voxel": (1, CUBE), "no voxel": (0, CUBE)}
KINDS = [(torch.float16, False), (torch.bfloat16, False), (torch.float32, True), (torch.float32, False), (torch.float64, False)]


@pytest.mark.parametrize(("dtype", "tf32"), KINDS, ids=str)
@pytest.mark.parametrize(("name", "channels"), [
    ("cube", (7, 13)), ("cube", (32, 40)), ("cube", (70, 23)), ("down", (23, 70)), ("flat", (9, 5)), ("strided", (16, 32)),
    ("one voxel", (8, 8)), ("no voxel", (8, 8))], ids=str)
def test_convolutions_are_those_of_the_reference(name: str, channels: tuple[int, int], dtype: torch.dtype, tf32: bool) -> None:
    for pairs, size in ((a_map(*MAPS[name]), 64), (a_map(*MAPS[name]).swapped(), 128)):
        x = normal(pairs.num_in, channels[0]).to(dtype)
        weight = normal(channels[1], pairs.num_taps, channels[0], seed=1).to(dtype)
        grad = normal(pairs.num_out, channels[1], seed=2).to(dtype)
        rows = pairs.in_rows, pairs.out_rows, pairs.tap_offsets
        y, late = (torch.ops.pc3d.twin_sparse_conv_tiled(x, weight, *make_tiles(pairs, size), pairs.num_out, tf32, late)
                   for late in (False, True))
        assert close(y, conv_module._conv_reference(x.double(), weight.double(), *rows, pairs.num_out), dtype, tf32=tf32)
        dw, late_dw = (torch.ops.pc3d.twin_sparse_conv_tiled_weight_grad(x, grad, *rows, tf32, late) for late in (False, True))
        assert close(dw, conv_module._weight_grad_reference(x.double(), grad.double(), *rows), dtype, tf32=tf32)
        assert torch.equal(y, late)  # nothing hangs on when copies land or who is first
        assert torch.equal(dw, late_dw)


def test_what_a_map_of_many_taps_and_the_sides_of_tiles_come_to() -> None:
    """Masks fold where a kernel has more taps than bits, and any grouping gives the same sums."""
    pairs = a_map(150, [[5, 5, 5], [1] * 3, [2] * 3])
    x, weight = normal(pairs.num_in, 6), normal(4, 125, 6, seed=1)
    expected = conv_module._conv_reference(x, weight, pairs.in_rows, pairs.out_rows, pairs.tap_offsets, pairs.num_out)
    for tiles in (make_tiles(pairs, 64), tiles_of(pairs)):
        assert close(torch.ops.pc3d.twin_sparse_conv_tiled(x, weight, *tiles, 150, False, True), expected, torch.float64)


def test_nothing_of_what_shared_memory_held_reaches_a_result_and_nan_stays() -> None:
    pairs = a_map(200, CUBE)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x, weight = normal(200, 24).to(dtype), normal(8, 27, 24, seed=1).to(dtype)
        x[17] = torch.nan
        y = torch.ops.pc3d.twin_sparse_conv_tiled(x, weight, *tiles_of(pairs), 200, True, False)
        touched = pairs.out_rows[pairs.in_rows == 17].long().unique()
        assert torch.equal(y.isnan().any(1).nonzero().squeeze(1), touched)
        assert bool(y[touched].isnan().all())


def test_many_blocks_share_the_steps_of_few_tiles_and_add_in_order() -> None:
    pairs = a_map(300, CUBE)
    x, weight = normal(300, 200).half(), normal(40, 27, 200, seed=1).half()  # 5 tiles with 27 * 7 steps each
    y = torch.ops.pc3d.twin_sparse_conv_tiled(x, weight, *tiles_of(pairs), 300, False, True)
    rows = pairs.in_rows, pairs.out_rows, pairs.tap_offsets
    assert close(y, conv_module._conv_reference(x.double(), weight.double(), *rows, 300), torch.float16)


def test_numbers_on_odd_addresses_are_moved() -> None:
    pairs = a_map(60, CUBE)
    flat = normal(60 * 8 + 1).float()
    x, weight = flat[1:].view(60, 8), normal(8, 27, 8, seed=1).float().transpose(0, 2)
    rows = pairs.in_rows, pairs.out_rows, pairs.tap_offsets
    y = torch.ops.pc3d.twin_sparse_conv_tiled(x, weight, *tiles_of(pairs), 60, False, False)
    assert close(y, conv_module._conv_reference(x.double(), weight.double(), *rows, 60), torch.float32)


@pytest.mark.parametrize("bad", ["x", "weight", "tiles", "long rows"])
def test_the_op_refuses_what_does_not_fit(bad: str) -> None:
    pairs = a_map(60, CUBE)
    x, weight, tiles = normal(60, 8), normal(8, 27, 8), tiles_of(pairs)
    if bad == "x":
        x = x[:, 1:]
    elif bad == "weight":
        weight = weight.float()
    elif bad == "tiles":
        tiles = tiles._replace(out_rows=tiles.out_rows[1:])
    else:
        tiles = tiles._replace(in_rows=tiles.in_rows.long())
    with pytest.raises((RuntimeError, ValueError), match="sparse_conv_tiled"):
        torch.ops.pc3d.twin_sparse_conv_tiled(x, weight, *tiles, 60, False, False)
