"""Training augmentation of the Relation3D family: a random linear map, elastic distortion, and a crop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, uniform_filter1d

from pc3d.structures import PointCloud


def random_linear(cloud: PointCloud, rng: np.random.Generator, *, jitter: float = 0.1, flip: bool = True, rotate: bool = True,
                  scale: tuple[float, float] = (1.0, 1.0)) -> PointCloud:
    """Map points by ``(I + jitter * noise)``, a random x flip, a turn about z, and a uniform scale.

    Normals take the same map and are not renormalised, as in the paper's code. Colours stay.
    """
    matrix = np.eye(3) + jitter * rng.standard_normal((3, 3))
    if flip and rng.random() < 0.5:
        matrix[0, 0] *= -1
    if rotate:
        angle = rng.uniform(0, 2 * np.pi)
        c, s = np.cos(angle), np.sin(angle)
        matrix = matrix @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    normals = None if cloud.normals is None else (cloud.normals @ matrix).astype(np.float32)
    matrix = matrix * rng.uniform(*scale)
    return cloud.replace(xyz=(cloud.xyz @ matrix).astype(np.float32), normals=normals)


def elastic_distortion(positions: NDArray[np.floating], granularity: float, magnitude: float,
                       rng: np.random.Generator) -> NDArray[np.float32]:
    """Shift positions (N, 3), in voxels, by smooth noise: white noise on a grid, blurred six times, read trilinearly.

    ``granularity`` is half the grid spacing in voxels, ``magnitude`` the factor on the blurred noise.
    """
    if len(positions) == 0:
        return positions.astype(np.float32)
    shape = (np.abs(positions).max(axis=0) // granularity).astype(int) + 3
    index = ((positions + (shape - 1) * granularity) / (2 * granularity)).T
    shift = np.empty((len(positions), 3), dtype=np.float32)
    for axis in range(3):
        noise = rng.standard_normal(shape).astype(np.float32)
        for _ in range(2):
            for blurred in range(3):
                noise = uniform_filter1d(noise, 3, axis=blurred, mode="constant")
        shift[:, axis] = map_coordinates(noise, index, order=1, mode="constant")
    return (positions + magnitude * shift).astype(np.float32)


def random_crop(positions: NDArray[np.floating], max_points: int, rng: np.random.Generator, *,
                extent: int = 512) -> NDArray[np.bool_]:
    """Choose at most ``max_points`` points by a random box, in voxels, that shrinks sideways until few enough remain.

    Returns a mask (N,); all True when there are few enough points already. Where even the smallest box holds too many
    (a column of points), it holds a random choice of them.
    """
    box = np.full(3, float(extent))
    keep = np.ones(len(positions), dtype=bool)
    if len(positions) <= max_points:
        return keep
    positions = positions - positions.min(axis=0)
    reach = positions.max(axis=0)
    while keep.sum() > max_points:
        if box[0] <= 32:
            keep[rng.permutation(np.flatnonzero(keep))[max_points:]] = False
            break
        offset = np.minimum(box - reach + 0.001, 0) * rng.random(3)
        moved = positions + offset
        keep = ((moved >= 0) & (moved < box)).all(axis=1)
        box[:2] -= 32
    return keep
