"""Numbers of things: from ids with gaps to 0, 1, 2, ..."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dense_ids(ids: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct ids in rising order (U,), and the place of each id among them (N,): np.unique with its inverse.

    Ids that span little are counted instead of sorted, several times as fast.
    """
    low, high = (int(ids.min()), int(ids.max())) if len(ids) else (0, -1)
    if high - low > 8 * len(ids):
        known, place = np.unique(ids, return_inverse=True)
        return known.astype(np.int64), place.reshape(-1)  # numpy 2.0 alone shapes an inverse like its input
    offset = ids.astype(np.int64, copy=False) if low == 0 else np.subtract(ids, low, dtype=np.int64)
    there = np.zeros(high - low + 1, dtype=bool)
    there[offset] = True
    if there.all():
        return np.arange(low, high + 1), offset
    return np.flatnonzero(there) + low, (np.cumsum(there) - 1)[offset]
