"""Which way is up: turn a mesh so that z points up and its floor lies at height 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.structures import PointCloud
from pc3d.superpoints import mesh_normals


def up_direction(xyz: NDArray[np.float32], normals: NDArray[np.float32]) -> NDArray[np.float64]:
    """Unit direction (3,) that most of the lower surface faces: floor, table tops and seats look up, at one normal.

    Coordinate axes are tried first, since most trackers know gravity; the best one is refined by the mean of the normals
    within 20 degrees of it, three times.
    """
    candidates = np.concatenate([np.eye(3), -np.eye(3)])
    scores = [_floor_score(xyz, normals, up) for up in candidates]
    up = candidates[int(np.argmax(scores))]
    for _ in range(3):
        near = normals[normals @ up > np.cos(np.radians(20))]
        if len(near):
            up = near.astype(np.float64).mean(axis=0)
            up /= np.linalg.norm(up)
    return up


def _floor_score(xyz: NDArray[np.float32], normals: NDArray[np.float32], up: NDArray[np.float64]) -> float:
    """Share of points facing ``up`` in the lower half, less those facing down there: a ceiling is not a floor."""
    height = xyz @ up
    lower = height < (np.percentile(height, 1) + np.percentile(height, 99)) / 2 + 0.05  # a floor alone has no middle
    facing = normals[lower] @ up
    return float((facing > 0.95).sum() - (facing < -0.95).sum()) / len(xyz)


def align_up(mesh: PointCloud) -> PointCloud:
    """Turn a cloud so that z is up and its floor is at z = 0; the 4x4 ``T_aligned_world`` goes into its metadata
    and, when it is written as PLY, into a comment of the header.

    Raises DataError for a cloud with neither normals nor faces.
    """
    normals = mesh.normals
    if normals is None:
        if mesh.faces is None:
            raise DataError(explain("which way is up cannot be told without normals or faces", do="Estimate normals first."))
        normals = mesh_normals(mesh.xyz, mesh.faces)
    up = up_direction(mesh.xyz, normals)
    turn = _turn_to_z(up)
    xyz = mesh.xyz @ turn.T
    floor = _floor_height(xyz[:, 2], normals @ up)
    transform = np.eye(4)
    transform[:3, :3] = turn
    transform[:3, 3] = turn @ mesh.origin - [0, 0, floor + (turn @ mesh.origin)[2]]
    moved = (xyz - [0, 0, floor]).astype(np.float32)
    origin = transform[:3, :3] @ mesh.origin
    notes = mesh.metadata.get("ply", {})
    comment = " ".join(["T_aligned_world", *(f"{number:.12g}" for number in transform.ravel())])  # so that a file keeps it too
    return mesh.replace(
        xyz=moved,
        origin=origin * [1, 1, 0],
        normals=(normals @ turn.T).astype(np.float32),
        metadata={**mesh.metadata, "T_aligned_world": transform.tolist(),
                  "ply": {**notes, "comments": [*notes.get("comments", []), comment]}},
    )


def _turn_to_z(up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest rotation (3, 3) that takes ``up`` to z."""
    target = np.array([0.0, 0.0, 1.0])
    axis, cosine = np.cross(up, target), float(up @ target)
    if cosine < -0.999999:
        return np.diag([1.0, -1.0, -1.0])
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)


def _floor_height(height: NDArray[np.floating], facing: NDArray[np.floating]) -> float:
    """Height of the lowest broad layer that faces up."""
    level = height[facing > 0.9]
    if not len(level):
        return float(height.min())
    counts, edges = np.histogram(level, bins=max(1, int((level.max() - level.min()) / 0.04)))
    lowest = int(np.flatnonzero(counts >= 0.25 * counts.max())[0])
    inside = level[(level >= edges[lowest]) & (level <= edges[lowest + 1])]
    return float(np.median(inside))
