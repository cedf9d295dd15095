"""Instance AP in the ScanNet protocol.

Intersections come from superpoints: a prediction is a set of superpoints, and how many points a superpoint shares with
each true instance is counted once per scan. Masks are never expanded to points unless the points are the segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
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
        """Return an aligned text table in percent, one row per class and the mean last."""
        rows = [*self.per_class.items(), ("mean", (self.ap, self.ap50, self.ap25))]
        width = max(len(name) for name, _ in rows)
        lines = [f"{'class':<{width}} {'AP':>6} {'AP50':>6} {'AP25':>6}"]
        lines += [f"{name:<{width}} " + " ".join(f"{_percent(value):>6}" for value in values) for name, values in rows]
        rule = "-" * len(lines[0])
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def to_dict(self) -> dict[str, float | None]:
        """Return flat json-ready numbers: ap, ap50, ap25 and ``ap/<class>``, ...; None where there is no truth."""
        flat = {"ap": self.ap, "ap50": self.ap50, "ap25": self.ap25}
        for name, values in self.per_class.items():
            flat |= {f"{key}/{name}": value for key, value in zip(("ap", "ap50", "ap25"), values)}
        return {key: None if np.isnan(value) else float(value) for key, value in flat.items()}


@dataclass(frozen=True, eq=False)
class _Scan:
    """What AP needs of one scan: I predictions in listing order against G true instances."""

    labels: NDArray[np.int64]        # (I,)
    scores: NDArray[np.float64]      # (I,)
    iou: NDArray[np.float64]         # (I, G), 0 where the classes differ
    ignored: NDArray[np.float64]     # (I,) share of a prediction that lies on void or on too small truth of its class
    truth_labels: NDArray[np.int64]  # (G,)
    truth_counts: NDArray[np.bool_]  # (G,) large enough to count


class InstanceAP:
    """Average precision of instances, collected scan by scan (ScanNet benchmark protocol).

    Predictions and true instances below ``min_points`` points do not count; a prediction of which more than the IoU
    threshold lies on void (no class, no instance) or on too small truth of its class is neither right nor wrong.
    """

    def __init__(self, classes: Sequence[str], min_points: int = 100, overlaps: Iterable[float] = OVERLAPS) -> None:
        self.classes = tuple(classes)
        self.min_points = min_points
        self.overlaps = tuple(overlaps)
        self._scans: list[_Scan] = []

    @property
    def num_scans(self) -> int:
        """Number of scans added so far."""
        return len(self._scans)

    def add(self, gt_labels: NDArray[np.integer], gt_instances: NDArray[np.integer], instances: Instances) -> None:
        """Add one scan: true class index (N,) and instance id (N,) per point, -1 for none, and what was predicted.

        Predicted classes are matched by name; those the metric does not know are dropped. Points with one instance id but
        two classes are two true instances. Raises DataError when the arrays are not about the same points.
        """
        labels, ids = np.asarray(gt_labels, dtype=np.int64), np.asarray(gt_instances, dtype=np.int64)
        self._check(labels, ids, instances)
        predicted = self._own_labels(instances)
        truth, truth_labels = _true_instances(labels, ids, len(self.classes))
        sizes = np.bincount(truth, minlength=len(truth_labels) + 1)[1:]
        shared = _count_shared(instances, truth, len(truth_labels) + 1)
        areas = shared.sum(axis=1)
        kept = np.flatnonzero((areas >= max(self.min_points, 1)) & (predicted >= 0))
        shared, areas, predicted = shared[kept], areas[kept], predicted[kept]
        common = np.where(predicted[:, None] == truth_labels, shared[:, 1:], 0.0)
        counts = sizes >= self.min_points
        self._scans.append(_Scan(
            labels=predicted,
            scores=instances.scores[kept].astype(np.float64),
            iou=common / (sizes + areas[:, None] - common),
            ignored=(shared[:, 0] + common[:, ~counts].sum(axis=1)) / areas,
            truth_labels=truth_labels,
            truth_counts=counts,
        ))

    def result(self) -> InstanceAPResult:
        """Compute AP over all scans added so far."""
        table = np.array([[self._class_ap(label, overlap) for overlap in self.overlaps] for label in range(len(self.classes))])
        table = table.reshape(len(self.classes), len(self.overlaps))
        quarter, half = np.isclose(self.overlaps, 0.25), np.isclose(self.overlaps, 0.5)
        parts = [_nanmean(table[:, columns], axis=1) for columns in (~quarter, half, quarter)]
        per_class = {name: (float(parts[0][i]), float(parts[1][i]), float(parts[2][i])) for i, name in enumerate(self.classes)}
        means = [float(_nanmean(table[:, columns].reshape(1, -1), axis=1)[0]) for columns in (~quarter, half, quarter)]
        return InstanceAPResult(means[0], means[1], means[2], per_class)

    def _check(self, labels: NDArray[np.int64], ids: NDArray[np.int64], instances: Instances) -> None:
        points = instances.num_segments if instances.point_to_superpoint is None else len(instances.point_to_superpoint)
        if labels.shape != (points,) or ids.shape != (points,):
            raise DataError(explain("truth and prediction are not about the same points",
                                    got=f"labels {labels.shape}, instances {ids.shape}", expected=f"({points},) each"))
        if not np.isfinite(instances.scores).all():
            row = int(np.flatnonzero(~np.isfinite(instances.scores))[0])
            raise DataError(explain("a score is not finite", where=f"instance {row}", got=float(instances.scores[row])))

    def _own_labels(self, instances: Instances) -> NDArray[np.int64]:
        own = {name: index for index, name in enumerate(self.classes)}
        translate = np.array([own.get(name, -1) for name in instances.classes], dtype=np.int64)
        return translate[instances.labels] if len(instances) else np.zeros(0, dtype=np.int64)

    def _class_ap(self, label: int, overlap: float) -> float:
        has_truth = any((scan.truth_counts & (scan.truth_labels == label)).any() for scan in self._scans)
        if not has_truth:
            return float("nan")
        matched = [_match(scan, label, overlap) for scan in self._scans]
        hits = np.concatenate([scan_hits for scan_hits, _, _ in matched])
        scores = np.concatenate([scan_scores for _, scan_scores, _ in matched])
        return _average_precision(hits, scores, missed=sum(misses for _, _, misses in matched))


def _true_instances(labels: NDArray[np.int64], ids: NDArray[np.int64],
                    num_classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the true instances 1..G by (class, id) and return that number per point, 0 for void, with the G classes."""
    real = (labels >= 0) & (labels < num_classes) & (ids >= 0)
    pairs, number = np.unique(np.stack([labels[real], ids[real]], axis=1), axis=0, return_inverse=True)
    truth = np.zeros(len(labels), dtype=np.int64)
    truth[real] = number.reshape(-1) + 1
    return truth, pairs[:, 0]


def _count_shared(instances: Instances, truth: NDArray[np.int64], num_truth: int) -> NDArray[np.float64]:
    """Count the points each prediction shares with each number in ``truth``: (I, num_truth)."""
    segment = instances.point_to_superpoint
    if segment is None:
        segments, numbers, counts = np.arange(len(truth)), truth, np.ones(len(truth), dtype=np.int64)
    else:
        cells, counts = np.unique(segment * num_truth + truth, return_counts=True)
        segments, numbers = cells // num_truth, cells % num_truth
    shared = np.zeros((len(instances), num_truth))
    for row, bits in enumerate(instances.bits):
        inside = np.unpackbits(bits, count=instances.num_segments, bitorder="little").astype(bool)[segments]
        shared[row] = np.bincount(numbers[inside], weights=counts[inside], minlength=num_truth)
    return shared


def _match(scan: _Scan, label: int, overlap: float) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Match one class of one scan greedily: (1 for right, 0 for wrong) and score of what counts, and how much was missed.

    Each true instance takes its predictions in listing order. Its first one is right and is spent; each further one costs
    a wrong prediction with the lower of the two scores, but stays free for the next true instance.
    """
    hits: list[float] = []
    scores: list[float] = []
    missed = 0
    spent = np.zeros(len(scan.labels), dtype=bool)
    above = scan.iou > overlap
    for truth in np.flatnonzero(scan.truth_counts & (scan.truth_labels == label)):
        rivals = scan.scores[above[:, truth] & ~spent]
        if not len(rivals):
            missed += 1
            continue
        spent[np.flatnonzero(above[:, truth] & ~spent)[0]] = True
        best = np.maximum.accumulate(rivals)
        hits += [1.0] + [0.0] * (len(rivals) - 1)
        scores += [best[-1], *np.minimum(best[:-1], rivals[1:])]
    wrong = scan.scores[(scan.labels == label) & ~above.any(axis=1) & (scan.ignored <= overlap)]
    return np.array(hits + [0.0] * len(wrong)), np.array([*scores, *wrong]), missed


def _average_precision(hits: NDArray[np.float64], scores: NDArray[np.float64], missed: int) -> float:
    """Integrate precision over recall: sum_i p_i (r_{i-1} - r_{i+1}) / 2 at the distinct scores and at (p, r) = (1, 0)."""
    order = np.argsort(scores, kind="stable")
    first = np.unique(scores[order], return_index=True)[1]
    right_before = np.concatenate([[0.0], np.cumsum(hits[order])])
    right = right_before[-1] - right_before[first]
    precision = np.append(right / (len(scores) - first), 1.0)
    recall = np.append(right / (right_before[-1] + missed), 0.0)
    widths = np.convolve(np.concatenate([recall[:1], recall, [0.0]]), [-0.5, 0.0, 0.5], "valid")
    return float(precision @ widths)


def _nanmean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}"
