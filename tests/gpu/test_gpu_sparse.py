"""On a GPU sparse convolution gives the CPU's maps and, in every type, its numbers, gradients and the same bits twice."""

from __future__ import annotations

import gpu_sparse
import pytest
import torch

from pc3d.errors import DataError
from pc3d.ops._library import has_kernel
from pc3d.ops.sparse_conv import sparse_conv
from pc3d.ops.sparse_map import coarse_keys, kernel_map

pytestmark = pytest.mark.gpu
needs_kernels = pytest.mark.skipif(not has_kernel("sparse_conv_tiled", "CUDA"), reason="needs a CUDA device and kernels for it")


def test_maps_are_those_of_the_cpu() -> None:
    rows = list(gpu_sparse.compare_maps("cuda"))
    assert not [row for row in rows if not row.ok], rows


@pytest.mark.parametrize(("dtype", "tf32"), gpu_sparse.KINDS, ids=str)
@pytest.mark.parametrize("case", list(gpu_sparse.convolution_cases()), ids=str)
def test_convolution_and_gradients_are_those_of_float64(
    case: tuple[str, int, int, int], dtype: torch.dtype, tf32: bool,
) -> None:
    row = gpu_sparse.compare_convolution(str(case), *case, dtype, tf32, gpu_sparse.KINDS[dtype, tf32], "cuda")
    assert row.ok, row


@needs_kernels
def test_ten_million_voxels_and_numbers_past_two_to_the_31st() -> None:
    if torch.cuda.mem_get_info()[0] < 40e9:
        pytest.skip("the GPU has less than 40 GB free")
    row = gpu_sparse.compare_large("cuda")
    assert row.ok, row


def test_results_do_not_depend_on_the_current_stream_or_device() -> None:
    pairs = gpu_sparse.make_map("cube", 3000, "cuda")
    x, weight = torch.randn(3000, 16, device="cuda"), torch.randn(24, 27, 16, device="cuda")
    expected = sparse_conv(x, weight, pairs)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        y = sparse_conv(x, weight, gpu_sparse.make_map("cube", 3000, "cuda"))
    side.synchronize()
    assert torch.equal(y, expected)


def test_exact_float32_unless_tf32_is_allowed() -> None:
    errors = {}
    for tf32, tolerance in ((False, 1e-5), (True, 2e-3)):
        row = gpu_sparse.compare_convolution("precision", "cube", 3000, 64, 64, torch.float32, tf32, tolerance, "cuda")
        assert row.ok, row
        errors[tf32] = float(row.numbers["forward"] or 0)
    if has_kernel("sparse_conv_tiled", "CUDA") and torch.cuda.get_device_capability() >= (8, 0):
        assert errors[True] > 10 * errors[False]


@needs_kernels
def test_gradients_match_finite_differences_twice() -> None:
    pairs = gpu_sparse.make_map("down", 12, "cuda")
    x = torch.randn(pairs.num_in, 2, dtype=torch.float64, device="cuda", requires_grad=True)
    weight = torch.randn(3, 8, 2, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: sparse_conv(a, b, pairs), (x, weight))
    assert torch.autograd.gradgradcheck(lambda a, b: sparse_conv(a, b, pairs), (x, weight))


@needs_kernels
def test_what_does_not_fit_is_refused_and_the_gpu_stays_usable() -> None:
    keys = gpu_sparse.some_keys(50).cuda()
    with pytest.raises((RuntimeError, ValueError), match="sorted and unique"):
        kernel_map(keys.flip(0), keys, **gpu_sparse.CUBE)
    with pytest.raises((RuntimeError, ValueError), match="sorted and unique"):
        coarse_keys(keys.flip(0), **gpu_sparse.DOWN, shape=(32, 32, 32))
    pairs = gpu_sparse.make_map("cube", 50, "cuda")
    with pytest.raises(DataError, match="different devices"):
        sparse_conv(torch.zeros(50, 3), torch.zeros(4, 27, 3), pairs)
    assert bool(torch.ones(3, device="cuda").sum() == 3)
