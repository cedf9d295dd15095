"""Scans too large to be looked at in one piece, cut into squares that overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OVERLAP = 3.0   # metres that neighbours share, at least: most furniture lies whole in one of them
SLACK = 1.25    # a scan that is at most so many times as long as a tile is not cut: little would be gained


def cut_tiles(xyz: NDArray[np.float32], size: float | None) -> list[NDArray[np.int64]]:
    """Rows, rising, of each of the squares of ``size`` metres that evenly cover points (N, 3) seen from above.

    Neighbours share ``OVERLAP`` metres or more, half a tile where that is less: what is not wider lies whole in a square.
    Squares of which a neighbour holds all points are left out. Sides of up to ``SLACK`` times ``size`` are not cut, and none
    when ``size`` is None.
    """
    everything = np.arange(len(xyz))
    if size is None or not len(xyz):
        return [everything]
    return [rows for strip in _strips(xyz[:, 0], everything, size) for rows in _strips(xyz[:, 1], strip, size)]


def _strips(places: NDArray[np.float32], rows: NDArray[np.int64], size: float) -> list[NDArray[np.int64]]:
    """Those of the rows, some, that lie in each strip along an axis, ``places`` (N,); strips that add nothing are left out."""
    order = np.argsort(places[rows], kind="stable")
    along = places[rows[order]].astype(np.float64)
    along -= along[0]
    if along[-1] <= SLACK * size:
        return [rows]
    overlap = min(OVERLAP, size / 2)
    last = np.ceil((along[-1] - overlap) / (size - overlap)) - 1
    step = (along[-1] - size) / last                    # strip k is from k * step to k * step + size
    latest = np.minimum(along // step, last)            # the last strip that holds each point, rising
    filled = np.unique(latest)                          # of any other strip the next holds all points
    begin = np.searchsorted(latest, filled)
    end = np.maximum(np.searchsorted(along, filled * step + size, "right"), np.searchsorted(latest, filled, "right"))
    return [rows[np.sort(order[i:j])] for i, j in zip(begin, end)]
