"""Greedy matching of one scan and average precision of many, as ScanNet's benchmark script does them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ScanOverlaps:
    """What matching needs of one scan: I predictions in listing order against G true instances."""

    labels: NDArray[np.int64]        # (I,)
    scores: NDArray[np.float64]      # (I,)
    iou: NDArray[np.float64]         # (I, G), 0 where the classes differ
    ignored: NDArray[np.float64]     # (I,) share of a prediction that lies on void or on too small truth of its class
    truth_labels: NDArray[np.int64]  # (G,)
    truth_counts: NDArray[np.bool_]  # (G,) large enough to count


@dataclass(eq=False)
class Pool:
    """Right and wrong predictions of one class at one IoU threshold, over scans."""

    hits: list[NDArray[np.bool_]] = field(default_factory=list)      # right or wrong
    scores: list[NDArray[np.float64]] = field(default_factory=list)  # of the same predictions
    missed: int = 0                                                  # true instances that nothing matches

    def add(self, hits: NDArray[np.bool_], scores: NDArray[np.float64], missed: int) -> None:
        """Add the matches of one scan."""
        self.hits.append(hits)
        self.scores.append(scores)
        self.missed += missed

    def update(self, other: Pool) -> None:
        """Add all that another pool holds."""
        self.hits += other.hits
        self.scores += other.scores
        self.missed += other.missed

    def average_precision(self) -> float:
        """Return AP in [0, 1], NaN when there is no truth: every true instance is a hit or a miss."""
        hits = np.concatenate([np.zeros(0, dtype=bool), *self.hits])
        if not hits.any() and not self.missed:
            return float("nan")
        return average_precision(hits, np.concatenate([np.zeros(0), *self.scores]), self.missed)


def match(scan: ScanOverlaps, label: int, overlap: float) -> tuple[NDArray[np.bool_], NDArray[np.float64], int]:
    """Match one class of one scan greedily: right or wrong and the score of what counts, and how much was missed.

    Each true instance takes its predictions in listing order. Its first one is right and is spent; each further one costs
    a wrong prediction with the lower of the two scores, but stays free for the next true instance.
    """
    hits: list[bool] = []
    scores: list[float] = []
    missed = 0
    spent = np.zeros(len(scan.labels), dtype=bool)
    above = scan.iou > overlap
    for truth in np.flatnonzero(scan.truth_counts & (scan.truth_labels == label)):
        rivals = np.flatnonzero(above[:, truth] & ~spent)
        if not len(rivals):
            missed += 1
            continue
        spent[rivals[0]] = True
        best = np.maximum.accumulate(scan.scores[rivals])
        hits += [True] + [False] * (len(rivals) - 1)
        scores += [best[-1], *np.minimum(best[:-1], scan.scores[rivals[1:]])]
    wrong = scan.scores[(scan.labels == label) & ~above.any(axis=1) & (scan.ignored <= overlap)]
    return np.array(hits + [False] * len(wrong), dtype=bool), np.array([*scores, *wrong], dtype=np.float64), missed


def average_precision(hits: NDArray[np.bool_], scores: NDArray[np.float64], missed: int) -> float:
    """Integrate precision over recall: sum_i p_i (r_{i-1} - r_{i+1}) / 2 at the distinct scores and at (p, r) = (1, 0)."""
    order = np.argsort(scores, kind="stable")
    first = np.unique(scores[order], return_index=True)[1]
    right_before = np.concatenate([[0.0], np.cumsum(hits[order])])
    right = right_before[-1] - right_before[first]
    precision = np.append(right / (len(scores) - first), 1.0)
    recall = np.append(right / (right_before[-1] + missed), 0.0)
    widths = np.convolve(np.concatenate([recall[:1], recall, [0.0]]), [-0.5, 0.0, 0.5], "valid")
    return float(precision @ widths)
