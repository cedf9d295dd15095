"""Tiles hold every pair of a map once, and the convolution over them is the convolution over the map, twice differentiable."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from pc3d.errors import DataError
from pc3d.ops import sparse_conv as conv_module
from pc3d.ops import sparse_tiles as tiles_module
from pc3d.ops.sparse_conv import sparse_conv
from pc3d.ops.sparse_map import KernelMap, coarse_keys, kernel_map, pack_keys
from pc3d.ops.sparse_tiles import GROUP_ROWS, Tiles, make_tiles, sparse_conv_tiled, tiles_of

CUBE = {"kernel_size": (3, 3, 3), "stride": (1, 1, 1), "padding": (1, 1, 1)}
DOWN = {"kernel_size": (2, 2, 2), "stride": (2, 2, 2), "padding": (0, 0, 0)}


def a_map(count: int, geometry: dict) -> KernelMap:
    chosen = torch.randperm(2 * 8**3, generator=torch.Generator().manual_seed(0))[:count].sort().values
    keys = pack_keys(torch.stack(torch.unravel_index(chosen, (2, 8, 8, 8)), 1))
    return kernel_map(keys if geometry is CUBE else coarse_keys(keys, **geometry, shape=(4, 4, 4)), keys, **geometry)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def triples(tiles: Tiles) -> Tensor:
    """(P, 3) tap, output and input of all pairs, sorted."""
    size = tiles.in_rows.shape[1]
    tile = torch.repeat_interleave(tiles.step_offsets.diff())
    outputs, taps = tiles.out_rows.view(-1, size)[tile], tiles.steps[:, :1].expand(-1, size)
    there = tiles.in_rows >= 0
    return torch.stack([taps[there], outputs[there], tiles.in_rows[there]], 1).unique(dim=0)


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("geometry", [CUBE, DOWN], ids=["cube", "down"])
def test_tiles_hold_every_pair_and_output_once(geometry: dict, count: int, size: int) -> None:
    for pairs in (a_map(count, geometry), a_map(count, geometry).swapped()):
        tiles = make_tiles(pairs, size)
        taps = torch.repeat_interleave(pairs.tap_offsets.diff())
        assert torch.equal(triples(tiles), torch.stack([taps.int(), pairs.out_rows, pairs.in_rows], 1).unique(dim=0))
        assert int((tiles.in_rows >= 0).sum()) == len(taps)
        real = tiles.out_rows[tiles.out_rows >= 0]
        assert torch.equal(real.sort().values, torch.arange(pairs.num_out, dtype=torch.int32))
        bits = tiles.steps[:, 1:] >> torch.arange(size // GROUP_ROWS) & 1
        assert torch.equal(bits.bool(), (tiles.in_rows.view(-1, size // GROUP_ROWS, GROUP_ROWS) >= 0).any(2))


def test_tiles_put_outputs_of_like_neighbourhoods_together() -> None:
    pairs = a_map(600, CUBE)
    as_they_come = torch.unique(pairs.out_rows // 64 * 27 + torch.repeat_interleave(pairs.tap_offsets.diff())).numel()
    assert len(make_tiles(pairs, 64).steps) < 0.97 * as_they_come


def test_a_map_and_its_swap_share_their_tiles_and_make_them_once() -> None:
    pairs = a_map(300, CUBE)
    tiles, swapped = tiles_of(pairs), tiles_of(pairs.swapped())
    assert tiles_of(pairs) is tiles
    assert tiles_of(pairs.swapped().swapped()) is tiles
    assert swapped.in_rows is tiles.in_rows  # mirrored: only the taps have other numbers
    assert torch.equal(triples(swapped), triples(make_tiles(pairs.swapped(), 64)))
    down = a_map(300, DOWN)
    assert tiles_of(down.swapped()) is tiles_of(down.swapped())
    assert tiles_of(down.swapped()) is not tiles_of(down)


@pytest.mark.parametrize("geometry", [CUBE, DOWN], ids=["cube", "down"])
def test_the_convolution_and_its_gradients_are_those_of_the_map(geometry: dict) -> None:
    for pairs in (a_map(200, geometry), a_map(200, geometry).swapped()):
        x, weight = normal(pairs.num_in, 5).requires_grad_(), normal(4, pairs.num_taps, 5, seed=1).requires_grad_()
        upstream, results = normal(pairs.num_out, 4, seed=2), []
        for convolve in (sparse_conv, sparse_conv_tiled):
            y = convolve(x, weight, pairs)
            results.append([y, *torch.autograd.grad(y, (x, weight), upstream)])
        for got, expected in zip(*results):
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("geometry", [CUBE, DOWN], ids=["cube", "down"])
def test_gradients_match_finite_differences_twice(geometry: dict) -> None:
    pairs = a_map(12, geometry)
    x, weight = normal(pairs.num_in, 1).requires_grad_(), normal(2, pairs.num_taps, 1, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: sparse_conv_tiled(a, b, pairs), (x, weight))
    assert torch.autograd.gradgradcheck(lambda a, b: sparse_conv_tiled(a, b, pairs), (x, weight))


@pytest.mark.parametrize(("name", "row"), [("in_rows", 10_000), ("in_rows", -1), ("out_rows", 10_000)])
def test_a_map_of_other_voxels_is_refused(name: str, row: int) -> None:
    pairs = a_map(100, CUBE)
    rows = getattr(pairs, name).clone()
    rows[3] = row
    with pytest.raises(DataError, match=name):
        tiles_of(dataclasses.replace(pairs, **{name: rows}, tiles={}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_means_its_type_and_gradients_come_back_in_their_own(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conv_module, "runs_in_tiles", lambda x: True)  # what a GPU with kernels says
    pairs = a_map(80, CUBE)
    x, weight = normal(80, 5).float().requires_grad_(), normal(4, 27, 5, seed=1).float().requires_grad_()
    exact = sparse_conv(x, weight, pairs)
    with torch.autocast("cpu", dtype):
        y, double = sparse_conv(x, weight, pairs), sparse_conv(x.double(), weight.double(), pairs)
    y.float().sum().backward()
    assert (y.dtype, double.dtype, x.grad.dtype, weight.grad.dtype) == (dtype, torch.float64, torch.float32, torch.float32)
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05)


def test_tf32_is_taken_where_torch_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    op = tiles_module._tiled_op
    monkeypatch.setattr(tiles_module, "_tiled_op", lambda *arguments: (seen.append(arguments[-1]), op(*arguments))[1])
    pairs, x, weight = a_map(20, CUBE), normal(20, 3).float(), normal(4, 27, 3).float()
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        for precision in ("ieee", "tf32", "ieee"):
            torch.backends.cuda.matmul.fp32_precision = precision
            sparse_conv_tiled(x, weight, pairs)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    assert seen == [False, True, False]
