"""Instance AP in the ScanNet protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.metrics.average_precision import average_precisions
from pc3d.metrics.contingency import Truth, check_scan, count_shared, labels_by_name, truth_by_class_and_id
from pc3d.metrics.report import flat_numbers, nanmean, text_table
from pc3d.ops import Matches, match_instances
from pc3d.structures import Instances

#: IoU thresholds of the benchmark: 0.5, 0.55, ..., 0.9 make AP, 0.25 stands alone.
OVERLAPS: tuple[float, ...] = (*np.arange(0.5, 0.95, 0.05).tolist(), 0.25)


@dataclass(frozen=True)
class InstanceAPResult:
    """AP over IoU 0.5..0.9, AP at 0.5 and at 0.25, all in [0, 1]; NaN where there is no truth to score.

    ``per_class`` maps a class name to its (ap, ap50, ap25).
    """

    ap: float
    ap50: float
    ap25: float
    per_class: dict[str, tuple[float, float, float]]

    def table(self) -> str:
        """Return an aligned text table in percent, one row per class and the mean last; or that there is nothing to score."""
        if isnan(self.ap):
            return "there is nothing to score: no scan has a labelled object of these classes with 100 points or more"
        return text_table(("AP", "AP50", "AP25"), self.per_class.items(), (self.ap, self.ap50, self.ap25))

    def group_means(self, groups: Mapping[str, str]) -> dict[str, tuple[float, float, float]]:
        """Mean (ap, ap50, ap25) over the classes of each group; ``groups`` maps class names to names of groups."""
        members = {group: [self.per_class[name] for name in groups if groups[name] == group] for group in groups.values()}
        return {group: (float(mean[0]), float(mean[1]), float(mean[2]))
                for group, mean in ((group, nanmean(np.array(rows), axis=0)) for group, rows in members.items())}

    def to_dict(self) -> dict[str, float | None]:
        """Return flat json-ready numbers: ap, ap50, ap25 and ``ap/<class>``, ...; None where there is no truth."""
        means = {"ap": self.ap, "ap50": self.ap50, "ap25": self.ap25}
        return flat_numbers(means, tuple(means), self.per_class)


class InstanceAP:
    """Average precision of instances, collected scan by scan (ScanNet benchmark protocol).

    Predictions and true instances below ``min_points`` points do not count; a prediction of which more than the IoU
    threshold lies on void (no class, no instance) or on too small truth of its class is neither right nor wrong.
    A scan is matched when it is added; what stays of it is a score and a bit per prediction and threshold.
    """

    def __init__(self, classes: Sequence[str], min_points: int = 100, overlaps: Iterable[float] = OVERLAPS) -> None:
        self.classes = tuple(classes)
        self.min_points = min_points
        self.overlaps = tuple(overlaps)
        self._scans: list[Matches] = []

    @property
    def num_scans(self) -> int:
        """Number of scans added so far."""
        return len(self._scans)

    def add(self, gt_labels: NDArray[np.integer], gt_instances: NDArray[np.integer], instances: Instances) -> None:
        """Add one scan: true class index (N,) and instance id (N,) per point, -1 for none, and what was predicted.

        Predicted classes are matched by name; those the metric does not know are dropped. Points with one instance id but
        two classes are two true instances. Raises DataError when the arrays are not about the same points.
        """
        labels, ids = check_scan(gt_labels, gt_instances, instances)
        truth = truth_by_class_and_id(labels, ids, len(self.classes))
        self.add_counted(truth, count_shared(instances, truth), labels_by_name(instances, self.classes), instances.scores)

    def add_counted(self, truth: Truth, shared: NDArray[np.int64], labels: NDArray[np.int64],
                    scores: NDArray[np.floating]) -> None:
        """Add one scan whose intersections (I, G + 1) with void and the truth are counted; class -1 drops a prediction."""
        areas = shared.sum(axis=1)
        kept = np.flatnonzero((areas >= max(self.min_points, 1)) & (labels >= 0))
        shared, areas, labels = shared[kept], areas[kept], labels[kept]
        common = np.where(labels[:, None] == truth.labels, shared[:, 1:], 0)
        counts = truth.sizes >= self.min_points
        iou = common / (truth.sizes + areas[:, None] - common)
        ignored = (shared[:, 0] + common[:, ~counts].sum(axis=1)) / areas
        columns = (iou, ignored, labels, scores[kept].astype(np.float64), truth.labels, counts, np.array(self.overlaps))
        self._scans.append(match_instances(*map(torch.from_numpy, columns)))

    def update(self, other: InstanceAP) -> None:
        """Add all scans of another metric of the same classes and settings; raises DataError for different ones."""
        own, theirs = ((metric.classes, metric.min_points, metric.overlaps) for metric in (self, other))
        if own != theirs:
            raise DataError(explain("metrics of different settings cannot be merged", got=theirs, expected=own))
        self._scans += other._scans

    def result(self) -> InstanceAPResult:
        """Compute AP over all scans added so far."""
        shape = (len(self.classes), len(self.overlaps))
        table = average_precisions(self._scans, shape[0] * shape[1]).reshape(shape)
        quarter, half = np.isclose(self.overlaps, 0.25), np.isclose(self.overlaps, 0.5)
        parts = [nanmean(table[:, columns], axis=1) for columns in (~quarter, half, quarter)]
        per_class = {name: (float(parts[0][i]), float(parts[1][i]), float(parts[2][i])) for i, name in enumerate(self.classes)}
        ap, ap50, ap25 = (float(nanmean(table[:, columns].reshape(-1))) for columns in (~quarter, half, quarter))
        return InstanceAPResult(ap, ap50, ap25, per_class)
