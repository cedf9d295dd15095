"""Greedy matching of predicted with true instances of one scan, as ScanNet's benchmark script does it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._library import define, on_cpu


class Matches(NamedTuple):
    """The K predictions that count, right or wrong, and the true instances that nothing matches.

    The cell of class c at threshold t of T is ``c * T + t``.
    """

    cell: Tensor    # (K,) int64
    hit: Tensor     # (K,) bool
    score: Tensor   # (K,) float64
    missed: Tensor  # (M,) int64 cells


def match_instances(iou: Tensor, ignored: Tensor, labels: Tensor, scores: Tensor, truth_labels: Tensor, truth_counts: Tensor,
                    overlaps: Tensor) -> Matches:
    """Match I predictions, in listing order, with G true instances at each of T thresholds.

    Each true instance that counts takes the predictions with ``iou > overlap`` in listing order. Its first one is right and is
    spent; each further one costs a wrong prediction with the lower of the two scores, but stays free for the next true
    instance. A prediction that matches no true instance is wrong, unless more than ``overlap`` of it is ignored.

    iou (I, G) float64, 0 where the classes differ; ignored (I,) float64 share of a prediction; labels (I,) int64, scores (I,)
    float64; truth_labels (G,) int64, truth_counts (G,) bool; overlaps (T,) float64. Raises DataError.
    """
    rows, columns = iou.shape if iou.dim() == 2 else (-1, -1)
    expected = {"iou": (iou, torch.float64, (rows, columns)), "ignored": (ignored, torch.float64, (rows,)),
                "labels": (labels, torch.int64, (rows,)), "scores": (scores, torch.float64, (rows,)),
                "truth_labels": (truth_labels, torch.int64, (columns,)), "truth_counts": (truth_counts, torch.bool, (columns,)),
                "overlaps": (overlaps, torch.float64, tuple(overlaps.shape[:1]))}
    for name, (value, dtype, shape) in expected.items():
        if value.dtype != dtype or tuple(value.shape) != shape:
            raise DataError(explain(f"{name} has the wrong type or shape", where="match_instances",
                                    got=f"{value.dtype} {tuple(value.shape)}", expected=f"{dtype} {shape}"))
    return Matches(*_op(*(value.contiguous() for value, _, _ in expected.values())))


def _reference(iou: Tensor, ignored: Tensor, labels: Tensor, scores: Tensor, truth_labels: Tensor, truth_counts: Tensor,
               overlaps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    counted: list[tuple[int, bool, float]] = []
    missed: list[int] = []
    width = len(overlaps)
    for threshold, overlap in enumerate(overlaps.tolist()):
        above = iou > overlap
        spent = torch.zeros(len(scores), dtype=torch.bool)
        for truth in truth_counts.nonzero().flatten().tolist():
            cell = int(truth_labels[truth]) * width + threshold
            rivals = (above[:, truth] & ~spent).nonzero().flatten().tolist()
            if not rivals:
                missed.append(cell)
                continue
            spent[rivals[0]] = True
            best = float(scores[rivals[0]])
            for rival in rivals[1:]:
                counted.append((cell, False, min(best, float(scores[rival]))))
                best = max(best, float(scores[rival]))
            counted.append((cell, True, best))
        wrong = ~above.any(1) & (ignored <= overlap)
        counted += [(int(labels[i]) * width + threshold, False, float(scores[i])) for i in wrong.nonzero().flatten().tolist()]
    cells, hits, values = zip(*counted) if counted else ((), (), ())
    return (torch.tensor(cells, dtype=torch.int64), torch.tensor(hits, dtype=torch.bool),
            torch.tensor(values, dtype=torch.float64), torch.tensor(missed, dtype=torch.int64))


def _fake(iou: Tensor, ignored: Tensor, labels: Tensor, scores: Tensor, truth_labels: Tensor, truth_counts: Tensor,
          overlaps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    counted, missed = (torch.library.get_ctx().new_dynamic_size() for _ in range(2))
    return (labels.new_empty(counted), labels.new_empty(counted, dtype=torch.bool),
            labels.new_empty(counted, dtype=torch.float64), labels.new_empty(missed))


_op = define("match_instances(Tensor iou, Tensor ignored, Tensor labels, Tensor scores, Tensor truth_labels, "
             "Tensor truth_counts, Tensor overlaps) -> (Tensor, Tensor, Tensor, Tensor)",
             reference=on_cpu(_reference), fake=_fake)
