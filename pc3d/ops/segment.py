"""Reductions of point rows over superpoints: sum, mean, max and softmax.

Conventions: an empty superpoint gives 0 and no gradient; a tie in max goes to the lowest point index, which takes the
whole gradient; NaN in gives NaN out; half types accumulate in float32; an id out of range raises DataError. Results of
the native kernels are bitwise equal for any number of threads and from run to run; the reference's sums on CUDA, which
run when the library was built without nvcc, are made with atomics and are not.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_ids
from pc3d.ops._library import define

Reduce = Literal["mean", "max", "sum", "softmax"]
TILE_ROWS = 128  # known to csrc/segment_kernels.h too


class Groups(NamedTuple):
    """Rows grouped by segment, made once by group_segments and shared by many reductions."""

    segment: Tensor  # (N,) segment of each row
    order: Tensor    # (N,) rows by segment, in rising order within one
    offsets: Tensor  # (S + 1,) where each segment starts in order
    tiles: Tensor    # (S + 1,) number of each segment's first tile of at most TILE_ROWS rows


def group_segments(index: Tensor, num_segments: int) -> Groups:
    """Group rows by segment. index (N,) int64 in [0, S) with S = num_segments. Raises DataError."""
    if index.dtype != torch.int64 or index.dim() != 1:
        raise DataError(explain("index has the wrong type or shape", where="segment op",
                                got=f"{index.dtype} {tuple(index.shape)}", expected="torch.int64 (N,)"))
    check_ids("segment op", "segment id", index, num_segments)
    return Groups(index, *_group(index, num_segments))


def segment_pool(x: Tensor, index: Tensor, num_segments: int, reduce: Reduce = "mean", groups: Groups | None = None,
                 weight: Tensor | None = None) -> Tensor:
    """Reduce the rows of each segment: y_s = reduce over {n : index_n = s} of x_n.

    x is (N, C) floating, index (N,) int64 in [0, S) with S = num_segments; returns (S, C). "softmax" is the sum of x_n times
    the softmax over its segment of ``weight`` (N, 1) or (N, C), by default of x itself. ``groups``, from
    group_segments(index, num_segments), saves the grouping and the check of the ids. Raises DataError.
    """
    groups = _checked_groups(x, index, num_segments, groups)
    if weight is not None and (reduce != "softmax" or weight.shape not in ((len(x), 1), x.shape)):
        raise DataError(explain("weight does not fit", where="segment_pool", got=f"{tuple(weight.shape)} for {reduce!r}",
                                expected=f"({len(x)}, 1) or {tuple(x.shape)}, for 'softmax' alone"))
    if reduce == "softmax":
        share = segment_softmax(_widen(x if weight is None else weight), index, num_segments, groups)
        return _sum(share * _widen(x), *groups).to(x.dtype)
    if reduce == "max":
        return _max(_widen(x), *groups)[0].to(x.dtype)
    if reduce == "sum":
        return _sum(_widen(x), *groups).to(x.dtype)
    if reduce == "mean":
        total = _sum(_widen(x), *groups)
        return (total / groups.offsets.diff().clamp(min=1).to(total.dtype)[:, None]).to(x.dtype)
    raise DataError(explain("unknown reduction", where="segment_pool", got=repr(reduce), expected="mean, max, sum or softmax"))


def segment_softmax(x: Tensor, index: Tensor, num_segments: int, groups: Groups | None = None) -> Tensor:
    """Softmax over the rows of each segment, per channel: y_n = exp(x_n) / sum over {m : index_m = index_n} of exp(x_m).

    x is (N, C) floating, index (N,) int64 in [0, S) with S = num_segments; returns (N, C). ``groups`` as in
    segment_pool. Raises DataError.
    """
    groups = _checked_groups(x, index, num_segments, groups)
    wide = _widen(x)
    top = _max(wide.detach(), *groups)[0]
    weight = (wide - _expand(top, *groups)).exp()
    return (weight / _expand(_sum(weight, *groups), *groups)).to(x.dtype)


def segment_expand(y: Tensor, index: Tensor, groups: Groups | None = None) -> Tensor:
    """Give every row the value of its segment: x_n = y_(index_n); its backward is a sum in a fixed order.

    y (S, C) floating, index (N,) int64 in [0, S); returns (N, C). ``groups`` as in segment_pool. Raises DataError.
    """
    if y.dim() != 2 or not y.is_floating_point():
        raise DataError(explain("y must be rows of floating numbers", where="segment_expand",
                                got=f"{y.dtype} {tuple(y.shape)}", expected="floating (S, C)"))
    return _expand(y, *_fitting_groups(y, index, len(y), groups))


def _checked_groups(x: Tensor, index: Tensor, num_segments: int, groups: Groups | None) -> Groups:
    if x.dim() != 2 or not x.is_floating_point():
        raise DataError(explain("x must be rows of floating numbers", where="segment op", got=f"{x.dtype} {tuple(x.shape)}",
                                expected="floating (N, C)"))
    if index.shape != x.shape[:1] or index.device != x.device:
        raise DataError(explain("index does not fit x", where="segment op", got=f"{tuple(index.shape)} on {index.device}",
                                expected=f"({len(x)},) on {x.device}"))
    return _fitting_groups(x, index, num_segments, groups)


def _fitting_groups(values: Tensor, index: Tensor, num_segments: int, groups: Groups | None) -> Groups:
    """The groups of these segments on the device of the values. Of given ones only sizes are checked: no pass over rows."""
    groups = groups or group_segments(index, num_segments)
    sizes, expected = [len(part) for part in groups], [len(index)] * 2 + [num_segments + 1] * 2
    devices = {part.device for part in groups}
    if sizes != expected or devices != {values.device}:
        on = ", ".join(sorted(map(str, devices)))
        raise DataError(explain("groups do not fit", where="segment op", got=f"lengths {sizes} on {on}",
                                expected=f"{expected} on {values.device}",
                                do="Make them with group_segments(index, num_segments) of this very index"))
    return groups


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _group_reference(index: Tensor, num_segments: int) -> tuple[Tensor, Tensor, Tensor]:
    ordered, order = torch.sort(index, stable=True)
    offsets = torch.searchsorted(ordered, torch.arange(num_segments + 1, device=index.device))
    num_tiles = (offsets.diff() + TILE_ROWS - 1) // TILE_ROWS
    return order, offsets, torch.cat([num_tiles.new_zeros(1), num_tiles.cumsum(0)])


def _group_fake(index: Tensor, num_segments: int) -> tuple[Tensor, Tensor, Tensor]:
    return index.new_empty(len(index)), index.new_empty(num_segments + 1), index.new_empty(num_segments + 1)


def _sum_reference(x: Tensor, index: Tensor, order: Tensor, offsets: Tensor, tiles: Tensor) -> Tensor:
    return x.new_zeros(len(offsets) - 1, x.shape[1]).index_add(0, index, x)


def _sum_fake(x: Tensor, index: Tensor, order: Tensor, offsets: Tensor, tiles: Tensor) -> Tensor:
    return x.new_empty(len(offsets) - 1, x.shape[1])


def _sum_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _expand(grad, *ctx.saved_tensors), None, None, None, None


def _max_reference(x: Tensor, index: Tensor, order: Tensor, offsets: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
    shape, wide_index, count = (len(offsets) - 1, x.shape[1]), index[:, None].expand_as(x), len(x)
    top = x.new_zeros(shape).scatter_reduce(0, wide_index, x, "amax", include_self=False)
    hit = (x == top[index]) | x.isnan()
    rows = torch.where(hit, torch.arange(count, device=x.device)[:, None], count)
    first = torch.full(shape, count, device=x.device).scatter_reduce(0, wide_index, rows, "amin")
    return top, torch.where(first == count, -1, first)


def _max_fake(x: Tensor, index: Tensor, order: Tensor, offsets: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
    top = x.new_empty(len(offsets) - 1, x.shape[1])
    return top, torch.empty_like(top, dtype=torch.int64)


def _max_backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    (row,) = ctx.saved_tensors
    spare = grad.new_zeros(ctx.num_rows + 1, grad.shape[1])  # the last row takes what belongs to no row
    return spare.scatter(0, torch.where(row < 0, ctx.num_rows, row), grad)[:-1], None, None, None, None


def _expand_reference(y: Tensor, index: Tensor, order: Tensor, offsets: Tensor, tiles: Tensor) -> Tensor:
    return y.index_select(0, index)


def _expand_fake(y: Tensor, index: Tensor, order: Tensor, offsets: Tensor, tiles: Tensor) -> Tensor:
    return y.new_empty(len(index), y.shape[1])


def _expand_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return _sum(_widen(grad), *ctx.saved_tensors).to(grad.dtype), None, None, None, None


def _save_groups(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _save_rows(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.num_rows = len(inputs[0])
    ctx.save_for_backward(output[1])


_GROUPS = "Tensor index, Tensor order, Tensor offsets, Tensor tiles"
_group = define("segment_group(Tensor index, int num_segments) -> (Tensor, Tensor, Tensor)", reference=_group_reference,
                fake=_group_fake)
_sum = define(f"segment_sum(Tensor x, {_GROUPS}) -> Tensor", reference=_sum_reference, fake=_sum_fake,
              backward=_sum_backward, setup_context=_save_groups)
_max = define(f"segment_max(Tensor x, {_GROUPS}) -> (Tensor, Tensor)", reference=_max_reference, fake=_max_fake,
              backward=_max_backward, setup_context=_save_rows)
_expand = define(f"segment_expand(Tensor y, {_GROUPS}) -> Tensor", reference=_expand_reference, fake=_expand_fake,
                 backward=_expand_backward, setup_context=_save_groups)
