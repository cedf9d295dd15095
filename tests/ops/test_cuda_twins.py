"""The bodies of the CUDA kernels of sparse convolution, run on the CPU thread by thread, give what the references say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pc3d.ops import sparse_map as map_module
from pc3d.ops._library import native_error
from pc3d.ops.sparse_map import conv_shape, pack_keys

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
