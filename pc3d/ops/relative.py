"""Table lookups of the relative position between all queries and keys of a scan, and their adjoint.

A pair (query k, key m) has one table column per axis, ``bins`` (3, K, M) int16. Rows of values belong to queries or to keys:

    read(rows)[h, k, m]    = sum over axes a of rows[h, r, bins[a, k, m]]           r = m with by_key, else k
    add(weights)[h, r, t]  = sum over a and over the pairs of row r with bins[a, k, m] = t of weights[h, k, m]

Each is the gradient of the other. No (H, K, M, 3) tensor and no int64 index is ever made on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._library import define

MAX_COLUMNS = 32768  # what an int16 bin can name; known to csrc/relative.cpp too


def relative_read(rows: Tensor, bins: Tensor, *, by_key: bool) -> Tensor:
    """Sum of three table columns for each pair: rows (H, K or M, T) floating, bins (3, K, M) int16 in [0, T); (H, K, M).

    Raises DataError for shapes and types that do not fit, ValueError for a bin out of range on the CPU (CUDA cannot raise: it
    reads NaN and adds nothing).
    """
    _check("rows", rows, bins)
    _check_columns("relative_read", rows.shape[2])
    if rows.shape[1] != bins.shape[2 if by_key else 1]:
        raise DataError(explain("rows do not fit bins", where="relative_read", got=tuple(rows.shape),
                                expected=f"(H, {bins.shape[2 if by_key else 1]}, T)"))
    result: Tensor = _read(_wide(rows), bins, by_key).to(rows.dtype)
    return result


def relative_add(weights: Tensor, bins: Tensor, columns: int, *, by_key: bool) -> Tensor:
    """Sum of the weights (H, K, M) of all pairs on each table column: (H, K or M, T) with T = columns.

    Raises DataError for shapes and types that do not fit, ValueError for a bin out of range on the CPU (CUDA cannot raise: it
    reads NaN and adds nothing).
    """
    _check("weights", weights, bins)
    _check_columns("relative_add", columns)
    if weights.shape[1:] != bins.shape[1:]:
        raise DataError(explain("weights do not fit bins", where="relative_add", got=tuple(weights.shape),
                                expected=f"(H, {bins.shape[1]}, {bins.shape[2]})"))
    result: Tensor = _add(_wide(weights), bins, columns, by_key).to(weights.dtype)
    return result


def _check(name: str, values: Tensor, bins: Tensor) -> None:
    if bins.dim() != 3 or len(bins) != 3 or bins.dtype != torch.int16:
        raise DataError(explain("bins hold one column per axis", where="relative op", got=f"{bins.dtype} {tuple(bins.shape)}",
                                expected="int16 (3, K, M)"))
    if values.dim() != 3 or not values.is_floating_point() or values.device != bins.device:
        raise DataError(explain(f"{name} must be three-dimensional and floating", where="relative op",
                                got=f"{values.dtype} {tuple(values.shape)} on {values.device}", expected=f"on {bins.device}"))


def _check_columns(op: str, columns: int) -> None:
    if not 1 <= columns <= MAX_COLUMNS:
        raise DataError(explain("the table has too few or too many columns", where=op, got=columns,
                                expected=f"1 to {MAX_COLUMNS}, which is what int16 bins can name"))


def _wide(values: Tensor) -> Tensor:
    """Half types accumulate in float32."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _columns(bins: Tensor, heads: int, by_key: bool) -> list[Tensor]:
    """One int64 (H, K, M) view per axis; (H, M, K) by key."""
    return [axis.long().expand(heads, -1, -1) for axis in (bins.transpose(1, 2) if by_key else bins)]


def _read_reference(rows: Tensor, bins: Tensor, by_key: bool) -> Tensor:
    x, y, z = (rows.gather(2, column) for column in _columns(bins, len(rows), by_key))
    total = x + y + z
    return (total.transpose(1, 2) if by_key else total).contiguous()


def _add_reference(weights: Tensor, bins: Tensor, columns: int, by_key: bool) -> Tensor:
    source = weights.transpose(1, 2) if by_key else weights
    total = weights.new_zeros(len(weights), source.shape[1], columns)
    for column in _columns(bins, len(weights), by_key):
        total.scatter_add_(2, column, source)
    return total


def _keep_for_read(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:
    rows, bins, ctx.by_key = inputs
    ctx.columns = rows.shape[2]
    ctx.save_for_backward(bins)


def _read_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return _add(grad, ctx.saved_tensors[0], ctx.columns, ctx.by_key), None, None


def _keep_for_add(ctx: Any, inputs: tuple[Tensor, Tensor, int, bool], output: Tensor) -> None:
    _, bins, _, ctx.by_key = inputs
    ctx.save_for_backward(bins)


def _add_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return _read(grad, ctx.saved_tensors[0], ctx.by_key), None, None, None


_read = define(
    "relative_read(Tensor rows, Tensor bins, bool by_key) -> Tensor",
    reference=_read_reference,
    fake=lambda rows, bins, by_key: rows.new_empty(rows.shape[0], bins.shape[1], bins.shape[2]),
    backward=_read_backward,
    setup_context=_keep_for_read,
)

_add = define(
    "relative_add(Tensor weights, Tensor bins, int columns, bool by_key) -> Tensor",
    reference=_add_reference,
    fake=lambda weights, bins, columns, by_key: weights.new_empty(weights.shape[0], bins.shape[2 if by_key else 1], columns),
    backward=_add_backward,
    setup_context=_keep_for_add,
)
