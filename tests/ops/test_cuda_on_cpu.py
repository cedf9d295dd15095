"""The CUDA kernels of csrc/, launched on a GPU that the CPU plays (cuda_on_cpu/machine.cpp), give the CPU's numbers."""

from __future__ import annotations

import ctypes
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
sys.path.append(str(Path(__file__).resolve().parent))

import gpu_comparisons
from cuda_on_cpu.build import build, rewrite

pytestmark = [pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here"),
              pytest.mark.skipif(sys.platform != "linux", reason="the library is linked as on Linux")]

OPS = ("segment_sum", "segment_max", "relative_read", "relative_add", "relation_bias", "relation_bias_grad", "asam_pool",
       "asam_pool_grad", "sparse_kernel_map", "sparse_coarse_keys")
CASES = {case: make for case, make in gpu_comparisons.op_cases().items() if case.split()[0] in OPS}
FORWARD, BACKWARD, RANDOM = 0, 1, 7
H100, RTX = 232_448, 101_376  # bytes of shared memory that a block may have on compute capability 9.0 and 8.6


@cache
def machine() -> ctypes.CDLL:
    """The library, whose kernels are the ops ``cuda_on_cpu::NAME``."""
    path = str(build())
    for op in OPS:
        schema = str(getattr(torch.ops.pc3d, op).default._schema)
        torch.library.define(f"cuda_on_cpu::{op}", schema[schema.index("("):])
    torch.ops.load_library(path)
    library = ctypes.CDLL(path)
    library.cuda_on_cpu_take.restype, library.cuda_on_cpu_take.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.cuda_on_cpu_complaint.restype = library.cuda_on_cpu_fault.restype = ctypes.c_char_p
    return library


def on_device(value: Any) -> Any:
    """A copy of a tensor in memory of the played GPU, which is gone after the next complaint."""
    if not isinstance(value, Tensor) or value.numel() == 0:
        return value
    memory = (ctypes.c_char * (value.numel() * value.element_size())).from_address(
        machine().cuda_on_cpu_take(value.numel() * value.element_size()))
    return torch.frombuffer(memory, dtype=value.dtype).view(value.shape).copy_(value)


def run(op: str, arguments: tuple[Any, ...], order: int, shared_bytes: int = H100) -> list[Tensor]:
    """The outputs of an op on the played GPU, whose threads and blocks run in an order."""
    machine().cuda_on_cpu_set(order, shared_bytes)
    try:
        given = [on_device(argument) for argument in arguments]
        result = getattr(torch.ops.cuda_on_cpu, op)(*given)
        outputs = [y.clone() for y in ([result] if isinstance(result, Tensor) else result)]
        changed = [a for a, b in zip(arguments, given) if isinstance(a, Tensor) and not same_bits(a, b)]
    finally:
        complaint = machine().cuda_on_cpu_complaint()
    assert complaint is None, complaint.decode()
    assert not changed, "an argument was written to"
    return gpu_comparisons.specified(op, arguments, outputs)


def same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8))


@pytest.mark.parametrize("case", CASES)
def test_kernels_give_the_numbers_of_the_cpu_and_the_same_bits_in_any_order_of_threads(case: str) -> None:
    op, arguments = case.split()[0], CASES[case]()
    expected, _ = gpu_comparisons.run_op(op, arguments, "cpu")
    results = [run(op, arguments, FORWARD), run(op, arguments, BACKWARD), run(op, arguments, RANDOM, RTX)]
    error = gpu_comparisons.relative_error(results[0], expected)
    assert error <= gpu_comparisons.TOLERANCE[gpu_comparisons.is_double(op, arguments)]
    assert all(same_bits(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


def test_a_launch_past_the_limits_of_the_hardware_raises() -> None:
    x = torch.zeros(1, 32 * 65_535 + 1)
    groups = torch.ops.pc3d.segment_group(torch.zeros(1, dtype=torch.int64), 1)
    with pytest.raises(RuntimeError, match="segment_sum: invalid configuration argument"):
        run("segment_sum", (x, torch.zeros(1, dtype=torch.int64), *groups), FORWARD)


FAULTS = ["", "wrong numbers", "1 threads have returned where others wait at the barrier", "threads wait at different barriers",
          "past an end of what it was given", "before the start of shared memory", "past an end of what it was given",
          "wrong numbers", "more than 48 KB", "invalid configuration", "invalid configuration", "invalid configuration",
          "invalid argument", "invalid argument", "not on the current stream", "no device guard",
          "past an end of what it was given"]


@pytest.mark.parametrize(("fault", "said"), list(enumerate(FAULTS)))
def test_the_played_gpu_notices(fault: int, said: str) -> None:
    heard = set()
    for order in (FORWARD, BACKWARD, RANDOM):
        machine().cuda_on_cpu_set(order, H100)
        heard.add(machine().cuda_on_cpu_fault(fault).decode())
        assert machine().cuda_on_cpu_complaint() is None
    assert any(said in words for words in heard)
    assert said or heard == {""}


def test_the_played_gpu_notices_a_launch_that_nobody_checks() -> None:
    machine().cuda_on_cpu_set(FORWARD, H100)
    assert machine().cuda_on_cpu_fault(len(FAULTS)) == b""
    assert machine().cuda_on_cpu_complaint() == b"a launch was not followed by check_launch"


@pytest.mark.parametrize("text", ["k<<<1, 2>>>();", "k<<<1, 2, 0, on>>>;", "k<x[1]><<<1, 2, 0, on>>>();", "__shared__ int one;",
                                  '__global__ void k() { asm volatile("trap;"); }'])
def test_what_the_rewriting_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a launch has four values|what is this"):
        rewrite(text)
