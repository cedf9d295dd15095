"""Masks that others put together, in rounds from the best observed pairs to the least."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pc3d.ops._library import define, on_cpu

_PERCENTILES = torch.arange(95, -1, -5)
_PAIRS = 1 << 16  # whose frames the reference compares at once


class Clusters(NamedTuple):
    """M masks in G groups."""

    group: Tensor           # (M,) int64
    frame_starts: Tensor    # (G + 1,) int64
    frames: Tensor          # (E,) int32 that observe each group, ascending


def mask_clusters(starts: Tensor, holders: Tensor, frame_of_holder: Tensor, num_frames: int, *, rate: float) -> Clusters:
    """Join M masks whose common holders are at least ``rate`` of the frames that observe both.

    Row m of ``holders`` (sparse: starts (M + 1,) int64, (E,) int32 ascending, in [0, H)) are the masks that hold mask m, and
    their frames, ``frame_of_holder`` (H,) int64 in [0, num_frames), observe it. In rounds of falling levels of common observers
    (the percentiles 95, 90, ..., 0 of all pairs with a holder in common, at least 1) the pairs that reach the level are joined,
    and then count as one mask with the holders and frames of all. Groups are numbered by their first mask.
    MaskClustering (CVPR 2024), section 3.3. Raises ValueError for rows that do not fit.
    """
    return Clusters(*_op(starts, holders, frame_of_holder, num_frames, _PERCENTILES, rate))


def _reference(starts: Tensor, holders: Tensor, frame_of_holder: Tensor, num_frames: int, percentiles: Tensor,
               rate: float) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.arange(len(starts) - 1).repeat_interleave(starts.diff())
    held, seen = (torch.sparse_coo_tensor(torch.stack([rows, columns]), torch.ones(len(rows)), (len(starts) - 1, width),
                                          check_invariants=True).coalesce()
                  for columns, width in ((holders.long(), len(frame_of_holder)), (frame_of_holder[holders.long()], num_frames)))
    group = torch.arange(len(held))
    pairs = _pairs(held, seen)
    for level in _levels(pairs[3], percentiles):
        first, second, supporters, observers = pairs
        edge = (observers >= level) & (supporters >= rate * observers)
        if not edge.any():
            continue
        part = components(first[edge], second[edge], len(held))
        group = part[group]
        held, seen = (_merged(rows, part) for rows in (held, seen))
        pairs = _pairs(held, seen)
    row, frame = seen.indices()
    return group, torch.searchsorted(row, torch.arange(len(seen) + 1)), frame.int()


def _pairs(held: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nodes with a holder in common, each pair once; how many holders, and how many frames observe both."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR")     # torch says once a process that what it uses inside is beta
        both = torch.sparse.mm(held, held.T).coalesce()
    first, second = both.indices()
    apart = first < second
    first, second, frames = first[apart], second[apart], seen.to_dense() > 0
    observers = [(frames[first[i:i + _PAIRS]] & frames[second[i:i + _PAIRS]]).sum(1) for i in range(0, len(first), _PAIRS)]
    return first, second, both.values()[apart].double(), torch.cat([first[:0], *observers]).double()


def _levels(observers: Tensor, percentiles: Tensor) -> Iterator[float]:
    """Percentiles of the positive numbers, linear between two of them, at least 1, each once."""
    ordered, last = observers[observers > 0].sort().values.tolist(), None
    for percentile in percentiles.tolist() if ordered else ():
        place = percentile * (len(ordered) - 1) / 100
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        level = max(ordered[low] + (ordered[high] - ordered[low]) * (place - low), 1.0)
        if level != last:
            yield level
        last = level


def components(first: Tensor, second: Tensor, count: int) -> Tensor:
    """Number of the connected component of each node (count,), by their first nodes: the least number spreads."""
    least = torch.arange(count)
    while True:
        spread = least.scatter_reduce(0, first, least[second], "amin").scatter_reduce(0, second, least[first], "amin")
        spread = spread[spread]
        if torch.equal(spread, least):
            return least.unique(return_inverse=True)[1]
        least = spread


def _merged(rows: Tensor, part: Tensor) -> Tensor:
    """Ones where any row of a part has one."""
    row, column = rows.indices()
    shape = (int(part.max()) + 1, rows.shape[1])
    merged = torch.sparse_coo_tensor(torch.stack([part[row], column]), rows.values(), shape, check_invariants=True).coalesce()
    return torch.sparse_coo_tensor(merged.indices(), merged.values().clamp(max=1), shape, is_coalesced=True,
                                   check_invariants=True)


def _fake(starts: Tensor, holders: Tensor, frame_of_holder: Tensor, num_frames: int, percentiles: Tensor,
          rate: float) -> tuple[Tensor, Tensor, Tensor]:
    ends, entries = (torch.library.get_ctx().new_dynamic_size() for _ in range(2))
    return starts.new_empty(len(starts) - 1), starts.new_empty(ends), starts.new_empty(entries, dtype=torch.int32)


_op = define("mask_clusters(Tensor starts, Tensor holders, Tensor frame_of_holder, int num_frames, Tensor percentiles, "
             "float rate) -> (Tensor, Tensor, Tensor)", reference=on_cpu(_reference), fake=_fake)
