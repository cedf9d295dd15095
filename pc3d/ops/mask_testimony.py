"""What every frame says of every mask: which of its own masks holds it whole."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pc3d.ops._library import define, on_cpu

_ROWS = 256  # masks that the reference asks about at once


class SparseRows(NamedTuple):
    """Sparse rows of whole numbers, columns ascending."""

    starts: Tensor          # (rows + 1,) int64
    columns: Tensor         # (E,) int32
    values: Tensor          # (E,) int32


class Testimony(NamedTuple):
    """Answers about M masks."""

    contained_starts: Tensor    # (M + 1,) int64
    contained: Tensor           # (E,) int32 masks that hold each mask whole, ascending
    spoke: Tensor               # (M,) int64 frames that saw enough of it, whether they hold it whole or split it
    whole: Tensor               # (M,) int64 frames of the masks that hold it
    undersegmented: Tensor      # (M,) bool split too often: it holds several objects


def mask_testimony(counts: SparseRows, held: Tensor, visible: SparseRows, frame_of_mask: Tensor, num_superpoints: int, *,
                   observed_share: float, min_points: float, contained_share: float, undersegment_share: float) -> Testimony:
    """Ask every frame about every mask; a frame that splits a mask says nothing of what belongs with it.

    Rows are M masks (``counts``: points) or F frames (``visible``: points) over S superpoints; ``held`` (E,) bool says which
    entries of ``counts`` are members of their mask; ``frame_of_mask`` (M,) int64 ascends, and a frame sees what its masks
    have. Of the points of mask m's members, a frame sees ``seen``, has ``labelled`` in its masks and ``shared`` in one of
    them. It speaks where m has ``min_points`` in its members and ``seen`` is at least ``observed_share`` of them, half of it
    labelled: an unlabelled surface says nothing. A mask holds m whole with ``contained_share`` of what is both seen and
    labelled (overlapping masks label twice). Under-segmented masks, which more than ``undersegment_share`` of the speaking
    frames split, are no evidence: they neither ask nor hold.
    MaskClustering (CVPR 2024), over superpoints. Raises ValueError for rows that do not fit each other, or where a frame sees
    or its masks have 2^31 points or more.
    """
    return Testimony(*_op(*counts, held, *visible, frame_of_mask, num_superpoints, observed_share, min_points, contained_share,
                          undersegment_share))


def _reference(starts: Tensor, superpoints: Tensor, counts: Tensor, held: Tensor, visible_starts: Tensor,
               visible_superpoints: Tensor, visible: Tensor, frame_of_mask: Tensor, num_superpoints: int,
               observed_share: float, min_points: float, contained_share: float,
               undersegment_share: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    points, members, sights = (_sparse(*rows, num_superpoints) for rows in (
        (starts, superpoints, counts), (starts, superpoints, held), (visible_starts, visible_superpoints, visible)))
    belongs = torch.zeros(len(points), len(sights), dtype=torch.float64)
    belongs[torch.arange(len(points)), frame_of_mask] = 1
    spoke, contained = [], []
    for first in range(0, len(points), _ROWS):
        rows = torch.arange(first, min(first + _ROWS, len(points)))
        part = members.index_select(0, rows).to_dense()                       # (R, S)
        own = (part * points.index_select(0, rows).to_dense()).sum(1, keepdim=True)
        seen, shared = (torch.sparse.mm(all_rows, part.T).T for all_rows in (sights, points))    # (R, F), (R, M)
        labelled = shared @ belongs
        speaks = (own >= min_points) & (seen > 0) & (seen >= observed_share * own) & (labelled >= 0.5 * seen)
        total = torch.minimum(labelled, seen)[:, frame_of_mask]
        contained.append((shared > 0) & (shared >= contained_share * total) & speaks[:, frame_of_mask])
        spoke.append(speaks.sum(1))
    holds = torch.cat([torch.zeros(0, len(points), dtype=torch.bool), *contained])
    num_spoke = torch.cat([torch.zeros(0, dtype=torch.int64), *spoke])
    split = num_spoke - (holds.double() @ belongs > 0).sum(1)
    bad = (num_spoke == 0) | (split.double() > undersegment_share * num_spoke.double())
    holds &= ~bad[:, None] & ~bad
    row, column = holds.nonzero().T
    whole = (holds.double() @ belongs > 0).sum(1)
    return torch.searchsorted(row, torch.arange(len(points) + 1)), column.int(), num_spoke, whole, bad


def _sparse(starts: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    rows = torch.arange(len(starts) - 1).repeat_interleave(starts.diff())
    return torch.sparse_coo_tensor(torch.stack([rows, columns.long()]), values.double(), (len(starts) - 1, width),
                                   check_invariants=True).coalesce()


def _fake(starts: Tensor, superpoints: Tensor, counts: Tensor, held: Tensor, visible_starts: Tensor,
          visible_superpoints: Tensor, visible: Tensor, frame_of_mask: Tensor, num_superpoints: int, observed_share: float,
          min_points: float, contained_share: float,
          undersegment_share: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    count = len(frame_of_mask)
    entries = torch.library.get_ctx().new_dynamic_size()
    return (starts.new_empty(count + 1), starts.new_empty(entries, dtype=torch.int32), starts.new_empty(count),
            starts.new_empty(count), starts.new_empty(count, dtype=torch.bool))


_op = define(
    "mask_testimony(Tensor starts, Tensor superpoints, Tensor counts, Tensor held, Tensor visible_starts, "
    "Tensor visible_superpoints, Tensor visible, Tensor frame_of_mask, int num_superpoints, float observed_share, "
    "float min_points, float contained_share, float undersegment_share) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=on_cpu(_reference), fake=_fake)
