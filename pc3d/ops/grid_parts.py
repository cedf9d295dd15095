"""Parts of sets of segments that hang together, told by the cells of a grid."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.ops._library import define, on_cpu
from pc3d.ops.grid_links import _reference as links_of
from pc3d.ops.grid_links import fan_out
from pc3d.ops.mask_clusters import components


def grid_parts(xyz: Tensor, segment: Tensor, starts: Tensor, members: Tensor, num_segments: int, side: float) -> Tensor:
    """Cut sets of segments into the parts that hang together by the links of ``grid_links`` between their own members.

    ``xyz``, ``segment``, ``num_segments`` and ``side`` are as there; ``starts`` (sets + 1,) int64 and ``members`` (E,) int32
    are sparse rows, ascending. Returns the part (E,) int64 of each entry, numbered by first entries; a segment without points
    is a part of its own. Raises ValueError for arguments that do not fit.
    """
    return _op(xyz, segment, starts, members, num_segments, side)


def _reference(xyz: Tensor, segment: Tensor, starts: Tensor, members: Tensor, num_segments: int, side: float) -> Tensor:
    link_starts, linked = links_of(xyz, segment, num_segments, side)
    row = torch.arange(len(starts) - 1).repeat_interleave(starts.diff())
    entry, of = fan_out(link_starts, members.long())
    wanted, keys = row[of] * num_segments + linked[entry], row * num_segments + members
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    both = keys[place] == wanted
    return components(of[both], place[both], len(members))


def _fake(xyz: Tensor, segment: Tensor, starts: Tensor, members: Tensor, num_segments: int, side: float) -> Tensor:
    return starts.new_empty(len(members))


_op = define("grid_parts(Tensor xyz, Tensor segment, Tensor starts, Tensor members, int num_segments, float side) -> Tensor",
             reference=on_cpu(_reference), fake=_fake)
