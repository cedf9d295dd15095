"""Ground truth of a scan on its superpoints."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.ops import instance_sums
from pc3d.structures import PointCloud, Targets
from pc3d.structures.ids import dense_ids

UNLABELLED = -100  # the id the paper's code gives points without an instance, before it averages ids


def make_targets(cloud: PointCloud, relation_labels: str = "majority") -> Targets:
    """Build Targets from a cloud with labels, instances and superpoints, by one histogram of (instance, superpoint).

    Instances are renumbered in the order of their ids; one whose label is unknown (-1) is left out.
    """
    assert cloud.superpoints is not None
    num_superpoints = int(cloud.superpoints.max(initial=-1)) + 1
    labels, instance = _known_instances(cloud)
    points = [torch.from_numpy(column) for column in (instance, cloud.superpoints, cloud.xyz)]
    histogram, sums = instance_sums(points[0], points[1], points[2], len(labels), num_superpoints)
    counts, sizes = histogram[:-1].numpy(), histogram.sum(dim=0).numpy()
    num_points = torch.from_numpy(counts).sum(dim=1, keepdim=True)
    relation = _majority(counts, sizes) if relation_labels == "majority" else _floor_mean(counts, sizes)
    return Targets(labels=torch.from_numpy(labels), masks=torch.from_numpy(2 * counts > sizes),
                   centers=(sums / num_points).float(),
                   superpoint_instances=torch.from_numpy(relation))


def _known_instances(cloud: PointCloud) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels of the instances (I,), by the first point of each, and per point the row of its instance (N,), -1 for none."""
    if cloud.instances is None or cloud.labels is None:
        return np.zeros(0, dtype=np.int64), np.full(len(cloud), -1, dtype=np.int64)
    known = (cloud.instances >= 0) & (cloud.labels >= 0)
    ids, row = dense_ids(np.where(known, cloud.instances, -1))
    unknown = int(len(ids) > 0 and ids[0] < 0)  # -1 comes first, where there is any
    first = np.empty(len(ids), dtype=np.int64)
    first[row[::-1]] = np.arange(len(row))[::-1]  # what is written last stays: the first point
    return cloud.labels[first[unknown:]], row - unknown


def _majority(counts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Instance with the most points in each superpoint, -1 where most points have none."""
    if len(counts) == 0:
        return np.full(len(sizes), -1, dtype=np.int64)
    best = counts.argmax(axis=0)
    return np.where(counts.max(axis=0) >= sizes - counts.sum(axis=0), best, -1)


def _floor_mean(counts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Mean instance id of each superpoint, rounded down, -100 standing for none: what the paper's code computes."""
    sums = np.arange(len(counts)) @ counts + UNLABELLED * (sizes - counts.sum(axis=0))
    return sums // np.maximum(sizes, 1)
