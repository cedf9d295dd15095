"""What to leave out so that one can look into a room: the ceiling, and walls seen from behind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pc3d.superpoints import cloud_normals
from pc3d.viz.projection import View, floor_plan_angle, typical_points

_FEWEST = 12  # points that have normals
_WALL_DEPTH = 0.3  # metres from the outermost points of the floor plan within which an upright surface is a wall


def open_to(view: View, places: NDArray[np.floating], normals: NDArray[np.floating],
            xyz: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Say which surfaces (at ``places``, of a scan ``xyz``) face the eye and are no ceiling; those without a normal do."""
    towards = np.broadcast_to(-view.axes[2], places.shape) if view.orthographic else view.eye - places
    facing = (normals * towards).sum(axis=1)
    low, high = np.quantile(xyz[:, 2], [0.01, 0.99]) if len(xyz) else (0.0, 0.0)
    is_room = high - low > 1.5
    ceiling = is_room & (normals[:, 2] < -0.5) & (places[:, 2] > low + 0.7 * (high - low))
    towards_eye = (facing >= 0.04 * np.linalg.norm(towards, axis=1)) | ~normals.any(axis=1)
    return np.asarray(towards_eye & ~ceiling)


def indoor_normals(xyz: NDArray[np.floating], normals: NDArray[np.float32] | None,
                   eye: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return normals (N, 3) that look at the eye, but into the room on outer walls and down on the ceiling.

    Normals of a cloud without faces have no side one could trust; they are estimated when there are none.
    """
    if normals is None:
        normals = cloud_normals(xyz) if len(xyz) >= _FEWEST else np.zeros((len(xyz), 3), dtype=np.float32)
    if not len(xyz):
        return normals
    against = (normals * _inwards(xyz, normals, eye)).sum(axis=1) < 0
    return np.where(against[:, None], -normals, normals)


def _inwards(xyz: NDArray[np.floating], normals: NDArray[np.floating], eye: NDArray[np.floating]) -> NDArray[np.floating]:
    """The direction (N, 3) each normal should look in."""
    towards = eye - xyz.astype(np.float64)
    angle = floor_plan_angle(typical_points(xyz))
    for axis in (np.array([np.cos(angle), np.sin(angle), 0.0]), np.array([-np.sin(angle), np.cos(angle), 0.0])):
        offset = xyz @ axis
        low, high = np.quantile(offset, [0.005, 0.995])
        is_wall = np.abs(normals @ axis) > 0.7
        towards[is_wall & (offset < low + _WALL_DEPTH)] = axis
        towards[is_wall & (offset > high - _WALL_DEPTH)] = -axis
    low, high = np.quantile(xyz[:, 2], [0.005, 0.995])
    towards[(np.abs(normals[:, 2]) > 0.7) & (xyz[:, 2] > high - _WALL_DEPTH)] = [0.0, 0.0, -1.0]
    return towards
