"""Inner products of pairs of sparse rows."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.ops._library import define, on_cpu
from pc3d.ops.grid_links import fan_out


def row_dots(starts: Tensor, columns: Tensor, values: Tensor, num_columns: int, first: Tensor, second: Tensor) -> Tensor:
    """Inner products (P,) float64 of the sparse rows ``first`` and ``second`` (P,) int64.

    ``starts`` (R + 1,) int64, ``columns`` (E,) int32 in [0, num_columns), ascending in each row, ``values`` (E,) float64.
    Fastest where pairs of one first row follow each other. Raises ValueError for rows and pairs that do not fit.
    """
    return _op(starts, columns, values, num_columns, first, second)


def _reference(starts: Tensor, columns: Tensor, values: Tensor, num_columns: int, first: Tensor, second: Tensor) -> Tensor:
    keys = torch.arange(len(starts) - 1).repeat_interleave(starts.diff()) * num_columns + columns
    entry, of = fan_out(starts, second)
    wanted = first[of] * num_columns + columns[entry]
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    terms = torch.where(keys[place] == wanted, values[place] * values[entry], 0.0)
    return values.new_zeros(len(first)).index_add(0, of, terms)


def _fake(starts: Tensor, columns: Tensor, values: Tensor, num_columns: int, first: Tensor, second: Tensor) -> Tensor:
    return values.new_empty(len(first))


_op = define("row_dots(Tensor starts, Tensor columns, Tensor values, int num_columns, Tensor first, Tensor second) -> Tensor",
             reference=on_cpu(_reference), fake=_fake)
