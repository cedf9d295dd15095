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

NUM_NEIGHBORS = 16  # that a normal is estimated from
NUM_EDGES = 8       # of them that join the graph
COLOR_WEIGHT = 0.3


def segment_cloud(
    xyz: NDArray[Any],
    *,
    rgb: NDArray[Any] | None = None,
    normals: NDArray[Any] | None = None,
    k: int = NUM_NEIGHBORS,
    k_threshold: float = 0.01,
    min_size: int = 20,
    color_weight: float = COLOR_WEIGHT,
) -> NDArray[np.int64]:
    """Split points into superpoints: patches of neighbouring points whose normals and colours change little.

    Edges join every point with its 8 nearest, w = 1 - |n_a . n_b| + color_weight |rgb_a - rgb_b|^2, rgb in [0, 1]; then
    Felzenszwalb and Huttenlocher (IJCV 2004), as for a mesh. Normals are estimated from the k nearest points where none
    are given; their signs do not matter. Convex edges are not favoured as on a mesh: estimated normals change so
    smoothly across an edge of the room that a squared weight would not stop there.

    xyz (N, 3) metres, rgb (N, 3) in 0..255, normals (N, 3). Returns (N,) dense ids numbered by their first point.
    Raises DataError.
    """
    points = torch.from_numpy(local_xyz(xyz, "segment_cloud"))
    neighbors = ops.knn(points, k)
    if normals is None:
        directions = ops.estimate_normals(points, neighbors)
    else:
        directions = torch.from_numpy(unit_rows(normals, len(points), "segment_cloud"))
    return _segment(neighbors, directions, rgb, k_threshold, min_size, color_weight)


def cloud_normals(xyz: NDArray[Any], *, k: int = NUM_NEIGHBORS, viewpoint: NDArray[Any] | None = None) -> NDArray[np.float32]:
    """Unit normal of every point (N, 3) from its k nearest neighbours, facing the viewpoint on the whole.

    Signs agree between neighbours. ``viewpoint`` (3,) metres is by default the middle of the bounding box, so the
    normals of a room point inwards, as those of its mesh. Raises DataError.
    """
    local = local_xyz(xyz, "cloud_normals")
    points = torch.from_numpy(local)
    towards = None
    if viewpoint is not None and len(local):
        offset = np.asarray(viewpoint, dtype=np.float64) - np.asarray(xyz[0], dtype=np.float64)
        towards = torch.from_numpy((local[0] + offset).astype(np.float32))
    return _oriented_normals(points, ops.knn(points, k), towards).numpy()


def normals_and_superpoints(xyz: NDArray[np.float32], rgb: NDArray[np.uint8] | None, k_threshold: float,
                            min_size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """cloud_normals and segment_cloud with one search for neighbours."""
    points = torch.from_numpy(local_xyz(xyz, "segment_cloud"))
    neighbors = ops.knn(points, NUM_NEIGHBORS)
    normals = _oriented_normals(points, neighbors)
    return normals.numpy(), _segment(neighbors, normals, rgb, k_threshold, min_size, COLOR_WEIGHT)


def _oriented_normals(points: Tensor, neighbors: Tensor, viewpoint: Tensor | None = None) -> Tensor:
    if viewpoint is None:
        viewpoint = (points.amin(0) + points.amax(0)) / 2 if len(points) else points.new_zeros(3)
    edges = neighbors[:, :NUM_EDGES].contiguous()
    return ops.orient_normals(points, ops.estimate_normals(points, neighbors), edges, viewpoint)


def _segment(neighbors: Tensor, normals: Tensor, rgb: NDArray[Any] | None, k_threshold: float, min_size: int,
             color_weight: float) -> NDArray[np.int64]:
    a = torch.arange(len(neighbors), dtype=torch.int32).repeat_interleave(min(NUM_EDGES, neighbors.shape[1]))
    b = neighbors[:, :NUM_EDGES].flatten().int()
    weights = 1 - (normals[a] * normals[b]).sum(1).abs()
    if rgb is not None and color_weight:
        colors = _unit_colors(rgb, len(neighbors))
        weights = weights + color_weight * (colors[a] - colors[b]).square().sum(1)
    return ops.felzenszwalb(torch.stack([a, b], dim=1), weights, len(neighbors), k_threshold, min_size).numpy()


def _unit_colors(rgb: NDArray[Any], count: int) -> Tensor:
    colors = np.asarray(rgb, dtype=np.float32) / 255
    if colors.shape != (count, 3):
        raise DataError(explain("colours do not fit the points", where="segment_cloud", got=f"shape {colors.shape}",
                                expected=f"({count}, 3)"))
    return torch.from_numpy(colors)
