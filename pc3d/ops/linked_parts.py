"""Parts of sets that hang together by links."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.ops._library import define, on_cpu
from pc3d.ops.grid_links import fan_out
from pc3d.ops.mask_clusters import components


def linked_parts(starts: Tensor, members: Tensor, link_starts: Tensor, linked: Tensor) -> Tensor:
    """Cut sets of nodes into the parts that hang together by links between their own members.

    ``starts`` (sets + 1,) int64 and ``members`` (E,) int32 are sparse rows, ascending, and so are the nodes that each node is
    linked to, both ways. Returns the part (E,) int64 of each entry, numbered by first entries. Raises ValueError for rows that
    do not fit.
    """
    return _op(starts, members, link_starts, linked)


def _reference(starts: Tensor, members: Tensor, link_starts: Tensor, linked: Tensor) -> Tensor:
    row, nodes = torch.arange(len(starts) - 1).repeat_interleave(starts.diff()), len(link_starts) - 1
    entry, of = fan_out(link_starts, members.long())
    wanted, keys = row[of] * nodes + linked[entry], row * nodes + members
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    both = keys[place] == wanted
    return components(of[both], place[both], len(members))


def _fake(starts: Tensor, members: Tensor, link_starts: Tensor, linked: Tensor) -> Tensor:
    return starts.new_empty(len(members))


_op = define("linked_parts(Tensor starts, Tensor members, Tensor link_starts, Tensor linked) -> Tensor",
             reference=on_cpu(_reference), fake=_fake)
