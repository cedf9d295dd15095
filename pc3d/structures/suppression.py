"""Of things that are much alike, the best: greedy non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def suppress(alike: NDArray[np.bool_], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows (R,) of ``order`` (K,), best first, that are alike (N, N) to none that is kept before them; others go."""
    alive, kept = np.ones(len(alike), dtype=bool), []
    for row in order:
        if alive[row]:
            kept.append(row)
            alive &= ~alike[row]
    return np.array(kept, dtype=np.int64)
