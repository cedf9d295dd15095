"""Least, greatest and mean of each coordinate, fast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROWS = 64  # points taken side by side: numpy reduces over wide rows several times as fast as over three columns


def column_range(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The least and the greatest coordinates, both (3,), of points (N, 3) with N >= 1."""
    whole = len(points) // ROWS * ROWS
    wide, rest = points[:whole].reshape(-1, 3 * ROWS), points[whole:]
    low = [wide.min(axis=0).reshape(ROWS, 3), rest] if whole else [rest]
    high = [wide.max(axis=0).reshape(ROWS, 3), rest] if whole else [rest]
    return np.concatenate(low).min(axis=0), np.concatenate(high).max(axis=0)


def column_mean(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mean (3,) of points (N, 3) with N >= 1, summed in float64."""
    whole = len(points) // ROWS * ROWS
    wide = points[:whole].reshape(-1, 3 * ROWS).sum(axis=0, dtype=np.float64)
    return (wide.reshape(ROWS, 3).sum(axis=0) + points[whole:].sum(axis=0, dtype=np.float64)) / len(points)
