"""S3DIS's own instance metrics: mean precision and recall at IoU 0.5, mean and weighted mean coverage (SGPN, ASIS)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.metrics.contingency import check_scan, count_painted, labels_by_name, truth_by_id
from pc3d.metrics.report import flat_numbers, nanmean, ratio, text_table
from pc3d.structures import Instances

#: The 13 classes by index as SoftGroup, HAIS and ISBNet's loader have them.
S3DIS_CLASSES_SOFTGROUP = ("ceiling", "floor", "wall", "beam", "column", "window", "door",
                           "chair", "table", "bookcase", "sofa", "board", "clutter")
#: The same 13 as ASIS, Mask3D, mmdet3d and ISBNet's preparation have them: four names sit elsewhere.
S3DIS_CLASSES_MASK3D = ("ceiling", "floor", "wall", "beam", "column", "window", "door",
                        "table", "chair", "sofa", "bookcase", "board", "clutter")
S3DIS_CLASS_ORDERS = {"softgroup": S3DIS_CLASSES_SOFTGROUP, "mask3d": S3DIS_CLASSES_MASK3D}


@dataclass(frozen=True)
class S3DISInstanceResult:
    """Means over classes of coverage, weighted coverage, precision and recall at IoU 0.5, in [0, 1]; NaN without a value.

    ``per_class`` maps a class name to its (cov, wcov, prec, rec).
    """

    mcov: float
    mwcov: float
    mprec: float
    mrec: float
    per_class: dict[str, tuple[float, float, float, float]]

    def table(self) -> str:
        """Return an aligned text table in percent, one row per class and the mean last."""
        return text_table(("Cov", "WCov", "Prec", "Rec"), self.per_class.items(),
                          (self.mcov, self.mwcov, self.mprec, self.mrec))

    def to_dict(self) -> dict[str, float | None]:
        """Return flat json-ready numbers: mcov, mwcov, mprec, mrec and ``cov/<class>``, ...; None where there is none."""
        means = {"mcov": self.mcov, "mwcov": self.mwcov, "mprec": self.mprec, "mrec": self.mrec}
        return flat_numbers(means, ("cov", "wcov", "prec", "rec"), self.per_class)


class S3DISInstances:
    """Precision, recall and coverage of S3DIS, collected room by room (ASIS's script on painted predictions).

    Predictions are painted onto the points in ascending score, so that each point has one instance. A painted instance is
    right if its largest IoU with truth of its class is at least ``overlap``; then per class over all rooms
    prec = right / predicted and rec = min(1, right / true). The coverage of a true instance is its largest IoU with a
    painted instance of its class; cov and wcov average it in each room, plainly and by points, and then over the rooms that
    have the class. A class without a value (no prediction for prec, no truth for the others) is left out of the mean.
    Points that nothing paints belong to nothing; ISBNet's script makes one predicted ceiling of them in each room.
    """

    def __init__(self, classes: Sequence[str] = S3DIS_CLASSES_SOFTGROUP, overlap: float = 0.5) -> None:
        self.classes = tuple(classes)
        self.overlap = overlap
        self.num_scans = 0
        self._right, self._predicted, self._true, self._rooms = np.zeros((4, len(self.classes)), dtype=np.int64)
        self._cov, self._wcov = np.zeros((2, len(self.classes)))

    def add(self, gt_labels: NDArray[np.integer], gt_instances: NDArray[np.integer], instances: Instances) -> None:
        """Add one room: true class index (N,) and instance id (N,) per point, -1 for none, and what was predicted.

        The class of a true instance is that of most of its points. Predicted classes are matched by name; those the metric
        does not know are dropped before painting. Raises DataError when the arrays are not about the same points.
        """
        labels, ids = check_scan(gt_labels, gt_instances, instances)
        truth = truth_by_id(labels, ids, len(self.classes))
        predicted = labels_by_name(instances, self.classes)
        rows = np.flatnonzero(predicted >= 0)
        shared = count_painted(instances, rows, truth)
        seen = shared.sum(axis=1) > 0  # some are empty, or painted over wholly
        shared, predicted = shared[seen], predicted[rows[seen]]
        common = np.where(predicted[:, None] == truth.labels, shared[:, 1:], 0.0)
        iou = common / (truth.sizes + shared.sum(axis=1)[:, None] - common)
        self._count(predicted, iou.max(axis=1, initial=0.0) >= self.overlap)
        self._cover(truth.labels, truth.sizes, iou.max(axis=0, initial=0.0))
        self.num_scans += 1

    def update(self, other: S3DISInstances) -> None:
        """Add all rooms of another metric of the same classes and settings; raises DataError for different ones."""
        own, theirs = (self.classes, self.overlap), (other.classes, other.overlap)
        if own != theirs:
            raise DataError(explain("metrics of different settings cannot be merged", got=theirs, expected=own))
        self.num_scans += other.num_scans
        for name in ("_right", "_predicted", "_true", "_rooms", "_cov", "_wcov"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def result(self) -> S3DISInstanceResult:
        """Compute the metrics over all rooms added so far."""
        columns = np.stack([ratio(self._cov, self._rooms), ratio(self._wcov, self._rooms),
                            ratio(self._right, self._predicted), np.minimum(1.0, ratio(self._right, self._true))])
        per_class = {name: (float(cov), float(wcov), float(prec), float(rec))
                     for name, (cov, wcov, prec, rec) in zip(self.classes, columns.T)}
        mcov, mwcov, mprec, mrec = (float(mean) for mean in nanmean(columns, axis=1))
        return S3DISInstanceResult(mcov, mwcov, mprec, mrec, per_class)

    def _count(self, predicted: NDArray[np.int64], right: NDArray[np.bool_]) -> None:
        self._predicted += self._per_class(predicted)
        self._right += self._per_class(predicted[right])

    def _cover(self, labels: NDArray[np.int64], sizes: NDArray[np.int64], coverage: NDArray[np.float64]) -> None:
        true = self._per_class(labels)
        there = true > 0
        points = np.bincount(labels, weights=sizes, minlength=len(self.classes))
        self._true += true
        self._rooms += there
        self._cov[there] += np.bincount(labels, weights=coverage, minlength=len(self.classes))[there] / true[there]
        self._wcov[there] += np.bincount(labels, weights=coverage * sizes, minlength=len(self.classes))[there] / points[there]

    def _per_class(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(labels, minlength=len(self.classes))
