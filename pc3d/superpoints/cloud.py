"""Superpoints of a bare cloud: the mesh algorithm on the graph of nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc3d import ops
from pc3d.errors import DataError, explain
from pc3d.superpoints._arrays import local_xyz, unit_rows

NUM_NEIGHBORS = 10
_CONTRARY = 0.02  # share of neighbours with opposite normals beyond which given normals count as unoriented


def segment_cloud(
    xyz: NDArray[Any],
    *,
    rgb: NDArray[Any] | None = None,
    normals: NDArray[Any] | None = None,
    k: int = NUM_NEIGHBORS,
    k_threshold: float = 0.01,
    min_size: int = 20,
    color_weight: float = 0.0,
) -> NDArray[np.int64]:
    """Split points into superpoints: patches of neighbouring points whose normals change little.

    Edges join every point with its k nearest. Their weight is that of a mesh edge, 1 - n_a . n_b and squared where convex,
    plus color_weight |rgb_a - rgb_b|^2 with rgb in [0, 1]; then Felzenszwalb and Huttenlocher (IJCV 2004), as for a
    mesh. Normals are estimated where none are given, and made to agree in sign between neighbours where they do not.

    xyz (N, 3) metres, rgb (N, 3) in 0..255, normals (N, 3). Returns (N,) dense ids numbered by their first point.
    Raises DataError.
    """
    points = torch.from_numpy(local_xyz(xyz, "segment_cloud"))
    neighbors = ops.knn(points, k)
    edges = _edges(neighbors)
    if normals is None:
        directions = _normals(points, neighbors)
    else:
        directions = torch.from_numpy(unit_rows(normals, len(points), "segment_cloud"))
        if _contrary_share(directions, edges) > _CONTRARY:
            directions = ops.orient_normals(points, directions, neighbors, _middle(points))
    weights = ops.edge_weights(points, directions, edges)
    if rgb is not None and color_weight:
        weights = weights + color_weight * _color_step(rgb, edges, len(points))
    return ops.felzenszwalb(edges, weights, len(points), k_threshold, min_size).numpy()


def cloud_normals(xyz: NDArray[Any], *, k: int = NUM_NEIGHBORS, viewpoint: NDArray[Any] | None = None) -> NDArray[np.float32]:
    """Unit normal of every point (N, 3) from its k nearest neighbours, facing the viewpoint on the whole.

    Signs agree between neighbours. ``viewpoint`` (3,) metres is by default the middle of the bounding box, so the
    normals of a room point inwards, as those of its mesh. Raises DataError.
    """
    local = local_xyz(xyz, "cloud_normals")
    points = torch.from_numpy(local)
    middle = _middle(points)
    if viewpoint is not None and len(local):
        offset = np.asarray(viewpoint, dtype=np.float64) - np.asarray(xyz[0], dtype=np.float64)
        middle = torch.from_numpy((local[0] + offset).astype(np.float32))
    return _normals(points, ops.knn(points, k), middle).numpy()


def _normals(points: Tensor, neighbors: Tensor, viewpoint: Tensor | None = None) -> Tensor:
    normals = ops.estimate_normals(points, neighbors)
    return ops.orient_normals(points, normals, neighbors, _middle(points) if viewpoint is None else viewpoint)


def _middle(points: Tensor) -> Tensor:
    """Middle of the bounding box (3,)."""
    return (points.amin(0) + points.amax(0)) / 2 if len(points) else points.new_zeros(3)


def _edges(neighbors: Tensor) -> Tensor:
    """Edges (N * k, 2) from every point to its neighbours."""
    count, k = neighbors.shape
    return torch.stack([torch.arange(count)[:, None].expand(count, k), neighbors], dim=2).reshape(-1, 2)


def _contrary_share(normals: Tensor, edges: Tensor) -> float:
    """Share of edges whose normals point apart."""
    if not len(edges):
        return 0.0
    return float(((normals[edges[:, 0]] * normals[edges[:, 1]]).sum(1) < -0.5).float().mean())


def _color_step(rgb: NDArray[Any], edges: Tensor, count: int) -> Tensor:
    colors = torch.from_numpy(np.asarray(rgb, dtype=np.float32) / 255)
    if colors.shape != (count, 3):
        raise DataError(explain("colours do not fit the points", where="segment_cloud", got=f"shape {tuple(colors.shape)}",
                                expected=f"({count}, 3)"))
    return (colors[edges[:, 0]] - colors[edges[:, 1]]).square().sum(1)
