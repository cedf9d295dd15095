"""What this machine can do at most, measured: the yardstick that percentages are of."""

from __future__ import annotations

import time

import torch

from pc3d.ops._library import native_error

SECONDS = 0.1  # of one measurement; the best of three counts


def peak_flops(dtype: torch.dtype = torch.float32) -> float:
    """Multiply-adds a second, times two, of all of torch's threads: float32 fused multiply-add, or bfloat16 dot products.

    Measured anew at every call, since the clock of a shared machine moves. Registers alone are used, in the widest vectors the
    processor has; matrix units (AMX) are not counted. Without the native library the rate of a large torch.mm stands in.
    """
    return max(_peak_once(dtype) for _ in range(3))


def _peak_once(dtype: torch.dtype) -> float:
    if native_error() is None:
        return float(torch.ops.pc3d.native_peak_mflops(dtype == torch.bfloat16, int(1e6 * SECONDS))) * 1e6
    size = 2048
    a = torch.ones(size, size, dtype=dtype)
    start = time.perf_counter()
    a @ a
    return 2 * size**3 / (time.perf_counter() - start)
