"""Which segments of a scan come near each other, told by the cells of a grid."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from pc3d.ops._library import define, on_cpu


def grid_links(xyz: Tensor, segment: Tensor, num_segments: int, side: float) -> tuple[Tensor, Tensor]:
    """Link segments that have points in the same or in touching cells of a grid of cubes of a ``side``, metres.

    Points are ``xyz`` (3, N) float32, by axes, and belong to ``segment`` (N,) int64 in [0, num_segments). Cubes touch at a
    corner or more; the grid begins at the lowest coordinates. Returns the sparse rows starts (S + 1,) int64 and linked (E,)
    int32, ascending; a segment with points is linked to itself. Raises ValueError for arguments that do not fit, and for
    points too far apart for the numbers of the cells.
    """
    return _op(xyz, segment, num_segments, side)


def _reference(xyz: Tensor, segment: Tensor, num_segments: int, side: float) -> tuple[Tensor, Tensor]:
    if not len(segment):
        return segment.new_zeros(num_segments + 1), segment.int()
    x, y, z = (_without_gaps(axis) for axis in ((xyz - xyz.amin(1, keepdim=True)) / side).long())
    height, width = int(z.max()) + 2, int(y.max()) + 2
    pair = (((x * width + y) * height + z) * num_segments + segment).unique()       # of a cell and a segment
    segment = pair % num_segments
    cells, number = (pair // num_segments).unique_consecutive(return_counts=True)
    starts = torch.cat([number.new_zeros(1), number.cumsum(0)])
    steps = torch.tensor([(dx * width + dy) * height + dz for dx, dy, dz in product((-1, 0, 1), repeat=3)])[:, None]
    place = torch.searchsorted(cells, cells + steps).clamp(max=len(cells) - 1)
    step, here = (cells[place] == cells + steps).nonzero().T
    entry, of = fan_out(starts, place[step, here])
    near = (here[of] * num_segments + segment[entry]).unique()                      # a cell, and a segment there or next to it
    entry, of = fan_out(starts, near // num_segments)
    linked = (segment[entry] * num_segments + (near % num_segments)[of]).unique()
    return torch.searchsorted(linked, torch.arange(num_segments + 1) * num_segments), (linked % num_segments).int()


def _without_gaps(cell: Tensor) -> Tensor:
    """Numbers (N,) of cells along an axis from 1 on, with one between those that do not touch: far points cost no room."""
    used, place = cell.unique(return_inverse=True)
    return torch.cat([used.new_ones(1), 1 + used.diff().clamp(max=2).cumsum(0)])[place]


def fan_out(starts: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Entries of some sparse rows, one row after another, and which of them each entry is of."""
    length = starts.diff()[rows]
    of = torch.arange(len(rows)).repeat_interleave(length)
    return torch.arange(len(of)) + (starts[rows] - (length.cumsum(0) - length))[of], of


def _fake(xyz: Tensor, segment: Tensor, num_segments: int, side: float) -> tuple[Tensor, Tensor]:
    return segment.new_empty(num_segments + 1), segment.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int32)


_op = define("grid_links(Tensor xyz, Tensor segment, int num_segments, float side) -> (Tensor, Tensor)",
             reference=on_cpu(_reference), fake=_fake)
