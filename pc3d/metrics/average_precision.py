"""Average precision of many scans, as ScanNet's benchmark script integrates it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.ops import Matches


def average_precisions(scans: Sequence[Matches], num_cells: int) -> NDArray[np.float64]:
    """AP in [0, 1] of each cell (class and threshold), NaN without truth: every true instance is a hit or a miss.

    Precision is integrated over recall: sum_i p_i (r_{i-1} - r_{i+1}) / 2 at the distinct scores of the cell, and at
    (p, r) = (1, 0) after them; before the first r is that of the first.
    """
    columns = zip(*scans) if scans else ((), (), (), ())
    cell, hit, score, missed = (torch.cat([*column, torch.zeros(0, dtype=torch.int64)]).numpy() for column in columns)
    order = np.lexsort((score, cell))
    cell, score, hits_before = cell[order], score[order], np.concatenate([[0.0], np.cumsum(hit[order])])
    ends = np.cumsum(np.bincount(cell, minlength=num_cells))
    truths = np.diff(hits_before[ends], prepend=0.0) + np.bincount(missed, minlength=num_cells)

    same_cell = np.diff(cell, prepend=-1, append=-1) == 0              # as the one before; the last entry is no prediction
    first = np.flatnonzero(~same_cell[:-1] | (np.diff(score, prepend=np.inf) != 0))   # of each distinct score of a cell
    owner, opens = cell[first], ~same_cell[first]
    closes = np.append(opens[1:], np.ones(min(len(first), 1), dtype=bool))
    right = hits_before[ends[owner]] - hits_before[first]              # hits of at least this score
    precision, recall = right / (ends[owner] - first), right / np.maximum(truths[owner], 1)
    before = np.where(opens, recall, np.concatenate([[0.0], recall])[:-1])
    after = np.where(closes, 0.0, np.append(recall, 0.0)[1:])
    areas = precision * (before - after) / 2 + np.where(closes, recall, 0.0) / 2       # the last term is (p, r) = (1, 0)
    return np.where(truths > 0, np.bincount(owner, weights=areas, minlength=num_cells), np.nan)
