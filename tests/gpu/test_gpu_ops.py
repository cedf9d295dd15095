"""On a GPU every op gives the CPU's numbers, forward and backward, and native kernels give the same bits twice."""

from __future__ import annotations

import gpu_comparisons
import pytest
import torch

from pc3d.errors import DataError
from pc3d.ops import group_segments, segment_pool
from pc3d.ops._library import has_kernel

pytestmark = pytest.mark.gpu
CASES = gpu_comparisons.op_cases()


@pytest.mark.parametrize("case", CASES)
def test_the_gpu_gives_the_numbers_of_the_cpu(case: str) -> None:
    row = gpu_comparisons.compare_op(case, CASES[case], "cuda")
    assert row.ok, row


def test_a_grouping_on_the_wrong_device_is_refused() -> None:
    groups = group_segments(torch.arange(6) % 2, 2)
    with pytest.raises(DataError, match="groups do not fit"):
        segment_pool(torch.zeros(6, 3, device="cuda"), groups.segment.cuda(), 2, "sum", groups)


@pytest.mark.skipif(not has_kernel("segment_sum", "CUDA"), reason="needs a CUDA device and kernels for it")
def test_the_kernel_itself_refuses_a_grouping_on_the_wrong_device() -> None:
    groups = group_segments(torch.arange(6) % 2, 2)
    for op in (torch.ops.pc3d.segment_sum, torch.ops.pc3d.segment_max):
        with pytest.raises((RuntimeError, ValueError), match="one device"):
            op(torch.zeros(6, 3, device="cuda"), *groups)
