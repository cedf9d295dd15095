"""Semantic IoU and accuracy over scans, from one confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.metrics.report import flat_numbers, nanmean, percent, ratio, text_table


@dataclass(frozen=True)
class SemanticResult:
    """Mean IoU, mean class accuracy and overall accuracy, in [0, 1]; NaN where there is nothing to score.

    ``per_class`` maps a class name to its (iou, acc).
    """

    miou: float
    macc: float
    oacc: float
    per_class: dict[str, tuple[float, float]]

    def table(self) -> str:
        """Return an aligned text table in percent, one row per class, the mean, and overall accuracy last."""
        table = text_table(("IoU", "Acc"), self.per_class.items(), (self.miou, self.macc))
        return f"{table}\noverall accuracy {percent(self.oacc)}"

    def to_dict(self) -> dict[str, float | None]:
        """Return flat json-ready numbers: miou, macc, oacc and ``iou/<class>``, ``acc/<class>``; None where there is none."""
        return flat_numbers({"miou": self.miou, "macc": self.macc, "oacc": self.oacc}, ("iou", "acc"), self.per_class)


class SemanticIoU:
    """Per-class IoU and accuracy of labels per point, collected scan by scan.

    With n_ij points of true class i labelled j: iou_i = n_ii / (sum_j n_ij + sum_j n_ji - n_ii), acc_i = n_ii / sum_j n_ij,
    overall accuracy sum_i n_ii / sum_ij n_ij. A class that is neither true nor predicted has no IoU, one without truth has no
    accuracy; both are left out of the means. A class predicted without truth has IoU 0.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.num_scans = 0
        self._confusion = np.zeros((len(self.classes), len(self.classes) + 1), dtype=np.int64)  # last column: no class

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Points (C, C + 1) by true class (row) and predicted class (column), the last column for no class."""
        return self._confusion.copy()

    def add(self, gt_labels: NDArray[np.integer], labels: NDArray[np.integer]) -> None:
        """Add one scan: true and predicted class index (N,) per point.

        A point whose truth is no known class (-1) does not count; one predicted as none (-1) is wrong. Raises DataError
        when the two are not about the same points.
        """
        truth, labels = np.asarray(gt_labels), np.asarray(labels)
        if truth.ndim != 1 or truth.shape != labels.shape:
            raise DataError(explain("truth and prediction are not about the same points", got=f"labels {labels.shape}",
                                    expected=f"{truth.shape}"))
        rows, columns = self._confusion.shape
        known = (truth >= 0) & (truth < rows)
        column = np.where((labels >= 0) & (labels < rows), labels, rows)[known].astype(np.int64)
        cells = truth[known].astype(np.int64) * columns + column
        self._confusion += np.bincount(cells, minlength=rows * columns).reshape(rows, columns)
        self.num_scans += 1

    def update(self, other: SemanticIoU) -> None:
        """Add all scans of another metric of the same classes; raises DataError for different ones."""
        if self.classes != other.classes:
            raise DataError(explain("metrics of different classes cannot be merged", got=other.classes, expected=self.classes))
        self._confusion += other._confusion
        self.num_scans += other.num_scans

    def result(self) -> SemanticResult:
        """Compute IoU and accuracy over all scans added so far."""
        right, true = self._confusion.diagonal(), self._confusion.sum(axis=1)
        predicted = self._confusion.sum(axis=0)[:-1]
        iou, accuracy = ratio(right, true + predicted - right), ratio(right, true)
        per_class = {name: (float(iou[i]), float(accuracy[i])) for i, name in enumerate(self.classes)}
        overall = float(ratio(right.sum(), true.sum()))
        return SemanticResult(float(nanmean(iou)), float(nanmean(accuracy)), overall, per_class)
