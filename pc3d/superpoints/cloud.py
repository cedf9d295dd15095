"""Superpoints of a bare cloud: the mesh algorithm on the graph of nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc3d import ops
from pc3d.superpoints._arrays import local_xyz, unit_rows


def segment_cloud(
    xyz: NDArray[Any],
    *,
    rgb: NDArray[Any] | None = None,
    normals: NDArray[Any] | None = None,
    k: int = 10,
    k_threshold: float = 0.01,
    min_size: int = 20,
    color_weight: float = 0.0,
) -> NDArray[np.int64]:
    """Split points into superpoints: patches of neighbouring points whose normals change little.

    Edges join every point with its k nearest; w = 1 - |n_a . n_b| + color_weight |rgb_a - rgb_b|^2 with rgb in [0, 1];
    then Felzenszwalb and Huttenlocher (IJCV 2004), as for a mesh. Normals are estimated where none are given.

    xyz (N, 3) metres, rgb (N, 3) in 0..255, normals (N, 3). Returns (N,) dense ids numbered by their first point.
    Raises DataError.
    """
    points = torch.from_numpy(local_xyz(xyz, "segment_cloud"))
    neighbors = ops.knn(points, k)
    if normals is None:
        directions = ops.estimate_normals(points, neighbors)
    else:
        directions = torch.from_numpy(unit_rows(normals, len(points), "segment_cloud"))
    edges = _edges(neighbors)
    weights = 1 - (directions[edges[:, 0]] * directions[edges[:, 1]]).sum(1).abs()
    if rgb is not None and color_weight:
        colors = torch.from_numpy(np.asarray(rgb, dtype=np.float32) / 255)
        weights = weights + color_weight * (colors[edges[:, 0]] - colors[edges[:, 1]]).square().sum(1)
    return ops.felzenszwalb(edges, weights, len(points), k_threshold, min_size).numpy()


def cloud_normals(xyz: NDArray[Any], *, k: int = 10) -> NDArray[np.float32]:
    """Unit normal of every point (N, 3) from its k nearest neighbours. Raises DataError."""
    points = torch.from_numpy(local_xyz(xyz, "cloud_normals"))
    return ops.estimate_normals(points, ops.knn(points, k)).numpy()


def _edges(neighbors: Tensor) -> Tensor:
    """Edges (N * k, 2) from every point to its neighbours."""
    count, k = neighbors.shape
    return torch.stack([torch.arange(count)[:, None].expand(count, k), neighbors], dim=2).reshape(-1, 2)
