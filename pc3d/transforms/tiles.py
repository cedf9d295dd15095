"""Scans too large to be looked at in one piece, cut into squares that overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OVERLAP = 3.0   # metres that neighbours share, at least: most furniture lies whole in one of them
SLACK = 1.8     # a scan that is at most so many times as long as a tile is not cut: rooms of training are as large


def cut_tiles(xyz: NDArray[np.float32], size: float | None) -> list[NDArray[np.int64]]:
    """Rows, rising, of each of the squares of ``size`` metres that evenly cover points (N, 3) seen from above.

    Neighbours share ``OVERLAP`` metres or more, half a tile where that is less: what is not wider lies whole in a square.
    Squares without points are left out. Sides of up to ``SLACK`` times ``size`` are not cut, and none when ``size`` is None.
    """
    everything = np.arange(len(xyz))
    if size is None or not len(xyz):
        return [everything]
    return [rows for strip in _strips(xyz[:, 0], everything, size) for rows in _strips(xyz[:, 1], strip, size)]


def _strips(places: NDArray[np.float32], rows: NDArray[np.int64], size: float) -> list[NDArray[np.int64]]:
    """Those of the rows that lie in each strip along an axis, ``places`` (N,); strips without any are left out."""
    along = places[rows].astype(np.float64)
    low, length = along.min(), np.ptp(along)
    if length <= SLACK * size:
        return [rows]
    overlap = min(OVERLAP, size / 2)
    starts = low + np.linspace(0, length - size, int(np.ceil((length - overlap) / (size - overlap))))
    strips = (rows[(along >= start) & (along <= start + size)] for start in starts)
    return [strip for strip in strips if len(strip)]
