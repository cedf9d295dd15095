"""Small mesh repairs in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def drop_small_parts(xyz: NDArray[Any], rgb: NDArray[Any], faces: NDArray[Any], min_part: int) -> Arrays:
    """Drop connected parts with fewer than ``min_part`` vertices and all vertices without a triangle."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(faces):
        return xyz[:0], rgb[:0], faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_matrix((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(xyz), len(xyz)))
    part = connected_components(graph, directed=False)[1]
    keep = np.bincount(part)[part] >= max(min_part, 3)
    row = np.cumsum(keep) - 1
    return xyz[keep], rgb[keep], row[faces[keep[faces[:, 0]]]]


def canonical_order(xyz: NDArray[Any], rgb: NDArray[Any], faces: NDArray[Any]) -> Arrays:
    """Sort vertices by position and faces by vertices: hashed voxel blocks come out in any order."""
    order = np.lexsort(xyz.T)
    row = np.empty(len(order), np.int64)
    row[order] = np.arange(len(order))
    faces = row[faces]
    first = faces.argmin(axis=1)
    faces = np.take_along_axis(faces, (first[:, None] + np.arange(3)) % 3, axis=1)
    return xyz[order], rgb[order], faces[np.lexsort(faces.T[::-1])]
