"""Ground truth of a scan on its superpoints."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc3d.ops import instance_rows, instance_sums
from pc3d.structures import PointCloud, Targets

UNLABELLED = -100  # the id the paper's code gives points without an instance, before it averages ids


def make_targets(cloud: PointCloud, relation_labels: str = "majority") -> Targets:
    """Build Targets from a cloud with labels, instances and superpoints, by one histogram of (instance, superpoint).

    Instances are renumbered in the order of their ids; one whose label is unknown (-1) is left out.
    """
    assert cloud.superpoints is not None
    num_superpoints = int(cloud.superpoints.max(initial=-1)) + 1
    labels, instance = _known_instances(cloud)
    histogram, sums = instance_sums(instance, torch.from_numpy(cloud.superpoints), torch.from_numpy(cloud.xyz), len(labels),
                                    num_superpoints)
    counts, sizes = histogram[:-1].numpy(), histogram.sum(dim=0).numpy()
    num_points = torch.from_numpy(counts).sum(dim=1, keepdim=True)
    relation = _majority(counts, sizes) if relation_labels == "majority" else _floor_mean(counts, sizes)
    return Targets(labels=labels, masks=torch.from_numpy(2 * counts > sizes),
                   centers=(sums / num_points).float(),
                   superpoint_instances=torch.from_numpy(relation))


def _known_instances(cloud: PointCloud) -> tuple[Tensor, Tensor]:
    """Labels of the instances (I,), by the first point of each, and per point the row of its instance (N,), -1 for none."""
    if cloud.instances is None or cloud.labels is None:
        return torch.zeros(0, dtype=torch.int64), torch.full((len(cloud),), -1)
    labels, _, rows = instance_rows(torch.from_numpy(cloud.labels), torch.from_numpy(cloud.instances), 1 << 32)
    return labels, rows


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
