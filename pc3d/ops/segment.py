"""Reductions of point rows over superpoints: sum, mean, max and softmax.

Conventions: an empty superpoint gives 0 and no gradient; a tie in max goes to the lowest point index, which takes the
whole gradient; NaN in gives NaN out; half types accumulate in float32; an id out of range raises DataError.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pc3d.errors import DataError, explain

Reduce = Literal["mean", "max", "sum"]


def segment_pool(x: Tensor, index: Tensor, num_segments: int, reduce: Reduce = "mean") -> Tensor:
    """Reduce the rows of each segment: y_s = reduce over {n : index_n = s} of x_n.

    x is (N, C) floating, index (N,) int64 in [0, S) with S = num_segments; returns (S, C). Raises DataError.
    """
    check_index(x, index, num_segments)
    if reduce not in ("mean", "max", "sum"):
        raise DataError(explain("unknown reduction", where="segment_pool", got=repr(reduce), expected="mean, max or sum"))
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if reduce == "max":
        return _max_reference(wide, index, num_segments).to(x.dtype)
    total = wide.new_zeros(num_segments, x.shape[1]).index_add(0, index, wide)
    if reduce == "mean":
        total = total / torch.bincount(index, minlength=num_segments).clamp(min=1).to(wide.dtype)[:, None]
    return total.to(x.dtype)


def segment_softmax(x: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Softmax over the rows of each segment, per channel: y_n = exp(x_n) / sum over {m : index_m = index_n} of exp(x_m).

    x is (N, C) floating, index (N,) int64 in [0, S) with S = num_segments; returns (N, C). Raises DataError.
    """
    check_index(x, index, num_segments)
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    top = _max_reference(wide.detach(), index, num_segments)
    weight = (wide - top[index]).exp()
    total = wide.new_zeros(num_segments, x.shape[1]).index_add(0, index, weight)
    return (weight / total[index]).to(x.dtype)


def check_index(x: Tensor, index: Tensor, num_segments: int) -> None:
    """Raise DataError unless x is (N, C) floating and index (N,) int64 in [0, num_segments) on the same device."""
    if x.dim() != 2 or not x.is_floating_point():
        raise DataError(explain("x must be rows of floating numbers", where="segment op", got=f"{x.dtype} {tuple(x.shape)}",
                                expected="floating (N, C)"))
    if index.dtype != torch.int64 or index.shape != x.shape[:1] or index.device != x.device:
        raise DataError(explain("index does not fit x", where="segment op",
                                got=f"{index.dtype} {tuple(index.shape)} on {index.device}",
                                expected=f"torch.int64 ({len(x)},) on {x.device}"))
    if index.numel():
        low, high = (int(v) for v in index.aminmax())
        if low < 0 or high >= num_segments:
            raise DataError(explain("segment id out of range", where="segment op", got=low if low < 0 else high,
                                    expected=f"ids in [0, {num_segments})"))


def _max_reference(x: Tensor, index: Tensor, num_segments: int) -> Tensor:
    """Segment maximum whose gradient goes to the first row that holds it."""
    wide_index = index[:, None].expand_as(x)
    with torch.no_grad():
        top = x.new_zeros(num_segments, x.shape[1]).scatter_reduce(0, wide_index, x, "amax", include_self=False)
        hit = (x == top[index]) | x.isnan()
        rows = torch.arange(len(x), device=x.device)[:, None].expand_as(x)
        first = torch.full(top.shape, len(x), device=x.device)
        first = first.scatter_reduce(0, wide_index, torch.where(hit, rows, len(x)), "amin")
    padded = torch.cat([x, x.new_zeros(1, x.shape[1])])
    return padded.gather(0, first)
