"""Cameras as the op takes them: intrinsics, the borders of what they see, and a table of the lens."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc3d.structures import Camera

_LENS_STEPS = 2048  # linear between them, a wide lens is off by less than a hundredth of a pixel


def pack_camera(camera: Camera) -> Tensor:
    """The numbers (13 + T,) of ``ops.lift_vote``, the last T of them of a lens; none of a pinhole."""
    border = _border(camera)
    x0, y0 = border.min(axis=0)
    x1, y1 = border.max(axis=0)
    values = [camera.fx, camera.fy, camera.cx + 0.5, camera.cy + 0.5, camera.width, camera.height, x0, x1, y0, y1]
    if camera.lens is None:
        return torch.tensor([*values, 0.0, 0.0, 0.0], dtype=torch.float32)
    reach = min(camera.lens.max_radius, 1.05 * float(np.linalg.norm(border, axis=1).max()))
    table = camera.lens.scale(np.sqrt(np.linspace(0, reach**2, _LENS_STEPS)))
    return torch.tensor([*values, reach**2, *camera.lens.p, *table], dtype=torch.float32)


def _border(camera: Camera) -> NDArray[np.float64]:
    """Ideal points (N, 2) all along the edge of the image."""
    u, v = np.linspace(-0.5, camera.width - 0.5, 33), np.linspace(-0.5, camera.height - 0.5, 33)
    low, high = np.full(33, -0.5), np.full(33, 1.0)
    pixels = np.concatenate([np.stack(pair, axis=1) for pair in (
        (u, low), (u, high * camera.height - 0.5), (low, v), (high * camera.width - 0.5, v))])
    return camera.rays(pixels)[:, :2]


def pack_pose(T_world_camera: NDArray[np.float64], origin: NDArray[np.float64]) -> Tensor:
    """World to camera (3, 4) for points given relative to ``origin``; float64 until the large numbers have cancelled."""
    pose = np.empty((3, 4), np.float32)
    rotation = T_world_camera[:3, :3].T
    pose[:, :3], pose[:, 3] = rotation, rotation @ (origin - T_world_camera[:3, 3])
    return torch.from_numpy(pose)
