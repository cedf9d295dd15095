"""Ground truth of a scan on its superpoints."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.structures import PointCloud, Targets

UNLABELLED = -100  # the id the paper's code gives points without an instance, before it averages ids


def make_targets(cloud: PointCloud, relation_labels: str = "majority") -> Targets:
    """Build Targets from a cloud with labels, instances and superpoints, by one histogram of (instance, superpoint).

    Instances are renumbered in the order of their ids; one whose label is unknown (-1) is left out.
    """
    assert cloud.superpoints is not None
    num_superpoints = int(cloud.superpoints.max(initial=-1)) + 1
    ids, labels, instance = _known_instances(cloud)
    inside = instance >= 0
    counts = np.bincount(instance[inside] * num_superpoints + cloud.superpoints[inside],
                         minlength=len(ids) * num_superpoints).reshape(len(ids), num_superpoints)
    sizes = np.bincount(cloud.superpoints, minlength=num_superpoints)
    num_points = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    sums = np.stack([np.bincount(instance[inside], weights=cloud.xyz[inside, a], minlength=len(ids)) for a in range(3)], axis=1)
    relation = _majority(counts, sizes) if relation_labels == "majority" else _floor_mean(instance, cloud.superpoints, sizes)
    return Targets(labels=torch.from_numpy(labels), masks=torch.from_numpy(2 * counts > sizes),
                   centers=torch.from_numpy((sums / num_points).astype(np.float32)),
                   superpoint_instances=torch.from_numpy(relation))


def _known_instances(cloud: PointCloud) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Instance ids (I,), their labels (I,), and per point the row of its instance (N,), -1 for none."""
    none = np.full(len(cloud), -1, dtype=np.int64)
    if cloud.instances is None or cloud.labels is None:
        return none[:0], none[:0], none
    known = (cloud.instances >= 0) & (cloud.labels >= 0)
    ids, first, row = np.unique(cloud.instances[known], return_index=True, return_inverse=True)
    instance = none
    instance[known] = row.reshape(-1)
    return ids, cloud.labels[known][first], instance


def _majority(counts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Instance with the most points in each superpoint, -1 where most points have none."""
    if len(counts) == 0:
        return np.full(len(sizes), -1, dtype=np.int64)
    best = counts.argmax(axis=0)
    return np.where(counts.max(axis=0) >= sizes - counts.sum(axis=0), best, -1)


def _floor_mean(instance: NDArray[np.int64], superpoints: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Mean instance id of each superpoint, rounded down, -100 standing for none: what the paper's code computes."""
    ids = np.where(instance >= 0, instance, UNLABELLED)
    sums = np.bincount(superpoints, weights=ids, minlength=len(sizes)).astype(np.int64)
    return sums // np.maximum(sizes, 1)
