"""Large scans cut into overlapping squares that fit a training batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cut_chunks(xyz: NDArray[np.float32], *, size: float, stride: float, grid: float,
               min_points: int) -> list[NDArray[np.int64]]:
    """Rows of each square of ``size`` x ``size`` metres, ``stride`` apart, that cover the points (N, 3) seen from above.

    Of the points in a cell of ``grid`` metres only the first one counts. Squares with fewer than ``min_points`` are left
    out, but the fullest one stays. Rows are in rising order.
    """
    local = xyz - xyz.min(axis=0)
    cells = (local.astype(np.float64) / grid).astype(np.int64)
    extent = cells.max(axis=0) + 1
    _, rows = np.unique((cells[:, 0] * extent[1] + cells[:, 1]) * extent[2] + cells[:, 2], return_index=True)
    rows = np.sort(rows)
    ground = local[rows, :2]
    starts = [np.arange(max(1, int(np.ceil((length - size) / stride)) + 1)) * stride for length in ground.max(axis=0)]
    inside = [[(ground[:, axis] >= start) & (ground[:, axis] <= start + size) for start in starts[axis]] for axis in (0, 1)]
    chunks = [rows[x & y] for x in inside[0] for y in inside[1]]
    large = [chunk for chunk in chunks if len(chunk) >= min_points]
    return large or [max(chunks, key=len)]
