"""Counts of frames, one frame after another, as sparse rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pc3d.ops._library import define
from pc3d.ops.mask_testimony import SparseRows


def frame_rows(tables: Sequence[Tensor], numbers: Tensor, rows: Tensor, num_columns: int) -> SparseRows:
    """Make sparse rows (R, num_columns), ascending, of the counts of F frames.

    Entries are (n, 3) int32: column, row of the frame from 1, count; or (n, 2), column and count, of frames with one row. In
    a frame those of a column stand side by side, each row once. Frame f has ``numbers[f]`` entries, (F,) int64, in one of the
    tables, after those of the frame before; and ``rows[f]`` rows. Raises ValueError for what does not fit.
    """
    return SparseRows(*_op(tables, numbers, rows, num_columns))


def _reference(tables: Sequence[Tensor], numbers: Tensor, rows: Tensor, num_columns: int) -> tuple[Tensor, Tensor, Tensor]:
    none = rows.new_zeros(0, 2 if not tables else tables[0].shape[1], dtype=torch.int32)
    entries = torch.cat([none, *tables])
    row = (rows.cumsum(0) - rows).repeat_interleave(numbers) + (entries[:, 1] - 1 if entries.shape[1] == 3 else 0)
    keys, order = (row * num_columns + entries[:, 0]).sort()
    ends = torch.arange(int(rows.sum()) + 1, device=rows.device) * num_columns
    return torch.searchsorted(keys, ends), entries[order, 0], entries[order, -1]


def _fake(tables: Sequence[Tensor], numbers: Tensor, rows: Tensor, num_columns: int) -> tuple[Tensor, Tensor, Tensor]:
    starts, count = rows.new_empty(torch.library.get_ctx().new_dynamic_size()), sum(len(one) for one in tables)
    return starts, rows.new_empty(count, dtype=torch.int32), rows.new_empty(count, dtype=torch.int32)


_op = define("frame_rows(Tensor[] tables, Tensor numbers, Tensor rows, int num_columns) -> (Tensor, Tensor, Tensor)",
             reference=_reference, fake=_fake)
