"""Average precision of many scans, as ScanNet's benchmark script integrates it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pc3d.ops import Matches


def average_precisions(scans: Sequence[Matches], num_cells: int) -> NDArray[np.float64]:
    """AP in [0, 1] of each cell (class and threshold), NaN without truth: every true instance is a hit or a miss."""
    cell, hit, score, missed = (np.concatenate([column.numpy() for column in columns]) for columns in zip(*scans)) if scans \
        else (np.zeros(0, dtype=dtype) for dtype in (np.int64, bool, np.float64, np.int64))
    order = np.argsort(cell, kind="stable")
    ends = np.cumsum(np.bincount(cell, minlength=num_cells))[:-1]
    misses = np.bincount(missed, minlength=num_cells)
    pools = zip(np.split(hit[order], ends), np.split(score[order], ends), misses.tolist())
    return np.array([average_precision(*pool) for pool in pools])


def average_precision(hits: NDArray[np.bool_], scores: NDArray[np.float64], missed: int) -> float:
    """Integrate precision over recall: sum_i p_i (r_{i-1} - r_{i+1}) / 2 at the distinct scores and at (p, r) = (1, 0)."""
    if not hits.any() and not missed:
        return float("nan")
    order = np.argsort(scores, kind="stable")
    first = np.unique(scores[order], return_index=True)[1]
    right_before = np.concatenate([[0.0], np.cumsum(hits[order])])
    right = right_before[-1] - right_before[first]
    precision = np.append(right / (len(scores) - first), 1.0)
    recall = np.append(right / (right_before[-1] + missed), 0.0)
    widths = np.convolve(np.concatenate([recall[:1], recall, [0.0]]), [-0.5, 0.0, 0.5], "valid")
    return float(precision @ widths)
