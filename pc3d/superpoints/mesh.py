"""Superpoints of a mesh, by the algorithm that ScanNet's own segments come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d import ops
from pc3d.superpoints._arrays import local_xyz


def segment_mesh(xyz: NDArray[Any], faces: NDArray[Any], *, k_threshold: float = 0.01, min_size: int = 20,
                 exact: bool = False) -> NDArray[np.int64]:
    """Split a mesh into superpoints: connected patches of vertices whose normals change little.

    Felzenszwalb and Huttenlocher (IJCV 2004) on the edges of the mesh, as in ScanNet's segmentator: edges (1-2, 1-3,
    3-2) of every face, w = 1 - n_a . n_b, squared where convex, n the running mean of the unit face normals.
    A superpoint smaller than ``min_size`` vertices remains only where it has no neighbour at all. Equal weights, and planes
    have many, are taken in the order of the faces or, ``exact``, in the order of ScanNet's own program: then the superpoints
    are those it makes of the same mesh.

    xyz (N, 3) metres, faces (F, 3) rows of xyz. Returns (N,) dense ids numbered by their first vertex. Raises DataError.
    """
    points = torch.from_numpy(local_xyz(xyz, "segment_mesh"))
    triangles = torch.from_numpy(np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3))
    edges, weights = ops.mesh_graph(points, triangles)
    return ops.felzenszwalb(edges, weights, len(points), k_threshold, min_size, exact=exact).numpy()


def mesh_normals(xyz: NDArray[Any], faces: NDArray[Any]) -> NDArray[np.float32]:
    """Area-weighted unit normal of every vertex (N, 3), 0 where it has no face with an area. Raises DataError."""
    points = torch.from_numpy(local_xyz(xyz, "mesh_normals"))
    triangles = torch.from_numpy(np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3))
    return ops.vertex_normals(points, triangles).numpy()
