"""How many points predictions share with true instances: the one count under every instance metric.

A prediction is a set of superpoints, and how many points a superpoint shares with each true instance is counted once per
scan. Masks are never expanded to points unless the points are the segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.ops import instance_rows, shared_counts
from pc3d.structures import Instances
from pc3d.structures.ids import dense_ids


@dataclass(frozen=True, eq=False)
class Truth:
    """The G true instances of one scan of N points, numbered 1..G in the order a greedy matching takes them."""

    number: NDArray[np.int64]  # (N,) which true instance a point belongs to, 0 for void
    labels: NDArray[np.int64]  # (G,) class index
    sizes: NDArray[np.int64]   # (G,) points

    def __len__(self) -> int:
        return len(self.labels)


def truth_by_class_and_id(labels: NDArray[np.int64], ids: NDArray[np.int64], num_classes: int) -> Truth:
    """Make one true instance of each (class, id), in that order: ScanNet's reading, where an id with two classes is two."""
    label, instance = (torch.from_numpy(np.require(column, requirements="W")) for column in (labels, ids))
    found, sizes, rows = instance_rows(label, instance, num_classes, by_label=True)
    return Truth(rows.add_(1).numpy(), found.numpy(), sizes.numpy())


def truth_by_id(labels: NDArray[np.int64], ids: NDArray[np.int64], num_classes: int) -> Truth:
    """Make one true instance of each id, of the class most of its points have; of equal ones the first (ASIS's reading)."""
    real = (labels >= 0) & (labels < num_classes) & (ids >= 0)
    known, number = dense_ids(ids[real])
    votes = np.bincount(number * num_classes + labels[real], minlength=len(known) * num_classes)
    classes = votes.reshape(len(known), num_classes).argmax(axis=1) if len(known) else np.zeros(0, dtype=np.int64)
    numbers = np.zeros(len(real), dtype=np.int64)
    numbers[real] = number + 1
    return _truth(numbers, classes)


def check_scan(labels: NDArray[np.integer], ids: NDArray[np.integer],
               instances: Instances) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return true labels and ids (N,) as int64; raises DataError unless they are about the points of the prediction."""
    segment = instances.point_to_superpoint
    points = instances.num_segments if segment is None else len(segment)
    if np.shape(labels) != (points,) or np.shape(ids) != (points,):
        raise DataError(explain("truth and prediction are not about the same points",
                                got=f"labels {np.shape(labels)}, instances {np.shape(ids)}",
                                expected=f"({points},) each"))
    return np.asarray(labels, dtype=np.int64), np.asarray(ids, dtype=np.int64)


def labels_by_name(instances: Instances, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the index in ``classes`` of each prediction's class (I,), -1 for a class of another name."""
    own = {name: index for index, name in enumerate(classes)}
    translate = np.array([own.get(name, -1) for name in instances.classes], dtype=np.int64)
    return translate[instances.labels] if len(instances) else np.zeros(0, dtype=np.int64)


def count_shared(instances: Instances, truth: Truth) -> NDArray[np.int64]:
    """Count the points each prediction shares with void (column 0) and with each true instance: (I, G + 1)."""
    columns = (instances.bits, _segment_of_point(instances), truth.number)
    bits, segment, number = (torch.from_numpy(np.ascontiguousarray(column)) for column in columns)
    return shared_counts(bits, segment, number, instances.num_segments, len(truth) + 1).numpy()


def count_painted(instances: Instances, rows: NDArray[np.int64], truth: Truth) -> NDArray[np.int64]:
    """Count as ``count_shared`` for the given ``rows`` (P,), after each point went to the row of the highest score: (P, G + 1).

    Predictions are painted in ascending score and, of equal scores, in listing order; the later one overwrites.
    """
    owner = np.full(instances.num_segments, -1, dtype=np.int64)
    for place in np.argsort(instances.scores[rows], kind="stable"):
        owner[instances[rows[place]].segment_masks[0]] = place
    painted = owner[_segment_of_point(instances)]
    width = len(truth) + 1
    cells = painted[painted >= 0] * width + truth.number[painted >= 0]
    return np.bincount(cells, minlength=len(rows) * width).reshape(len(rows), width)


def _truth(number: NDArray[np.int64], labels: NDArray[np.int64]) -> Truth:
    return Truth(number, labels, np.bincount(number, minlength=len(labels) + 1)[1:])


def _segment_of_point(instances: Instances) -> NDArray[np.int64]:
    segment = instances.point_to_superpoint
    return np.arange(instances.num_segments) if segment is None else segment
