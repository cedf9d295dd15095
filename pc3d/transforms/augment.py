"""Training augmentation of the Relation3D family: a random linear map, elastic distortion, and a crop.

The order of the random draws is part of each function: a test holds them to the published steps written out in numpy and scipy.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.ops import column_stats, elastic, map_points
from pc3d.structures import PointCloud
from pc3d.transforms.tensors import as_tensor

MAX_NODES = 1 << 26     # of an elastic distortion: 3 GB in all; a floor of 100 x 60 x 5 m in voxels of 2 cm has 2.4 million


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
    size = scale[0] if scale[0] == scale[1] else rng.uniform(*scale)
    return cloud.replace(xyz=_mapped(cloud.xyz, matrix * size),
                         normals=None if cloud.normals is None else _mapped(cloud.normals, matrix))


def _mapped(points: NDArray[np.float32], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    return map_points(as_tensor(points), torch.zeros(3), torch.from_numpy(matrix.astype(np.float32))).numpy()


def elastic_distortion(positions: NDArray[np.float32], granularity: float, magnitude: float,
                       rng: np.random.Generator, *, source: object = None) -> NDArray[np.float32]:
    """Shift positions (N, 3), in voxels, by smooth noise: white noise on a grid, blurred six times, read trilinearly.

    ``granularity`` is half the grid spacing in voxels, ``magnitude`` the factor on the blurred noise. The grid has
    ``max |x| // granularity + 3`` nodes along x, and so on. Raises DataError, naming ``source``, where these are more than
    MAX_NODES.
    """
    if len(positions) == 0:
        return positions
    points = as_tensor(positions)
    low, high, _ = column_stats(points)
    shape = (torch.maximum(high.abs(), low.abs()).numpy() // granularity).astype(int) + 3
    if np.prod(shape, dtype=float) > MAX_NODES:
        raise DataError(explain("the scan is too large to distort elastically", where=source,
                                got=f"{', '.join(f'{e:.3g}' for e in (high - low).tolist())} voxels along x, y, z",
                                do="Check its units (metres) and outliers, cut it into parts, or set augment.elastic=[]."))
    noise = torch.from_numpy(rng.standard_normal((3, *shape), dtype=np.float32))
    return elastic(points, noise, granularity, magnitude).numpy()


def random_crop(positions: NDArray[np.float32], max_points: int, rng: np.random.Generator, *,
                extent: int = 512) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Choose at most ``max_points`` points by a random box, in voxels, that shrinks sideways until few enough remain.

    Positions (N, 3) start at 0. Returns them moved so that the box starts at 0, and which of them it holds (N,); nothing
    moves when there are few enough already. Where even the smallest box holds too many (a column of points), it keeps a
    random choice of them; where a box holds none (between parts of a wide scan), it moves to a random point.
    """
    keep = np.ones(len(positions), dtype=bool)
    if len(positions) <= max_points:
        return positions, keep
    box = np.full(3, float(extent))
    reach, moved = positions.max(axis=0), positions
    while keep.sum() > max_points:
        if box[0] <= 32:
            keep[rng.permutation(np.flatnonzero(keep))[max_points:]] = False
            break
        moved, keep = _boxed(positions, np.minimum(box - reach + 0.001, 0) * rng.random(3), box)
        if not keep.any():
            middle = box / 2 - positions[rng.integers(len(positions))]
            moved, keep = _boxed(positions, np.clip(middle, np.minimum(box - reach - 1, 0), 0), box)
        box[:2] -= 32
    return moved, keep


def _boxed(positions: NDArray[np.float32], offset: NDArray[np.float64],
           box: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Positions (N, 3) moved, and which of them (N,) lie between 0 and the corner of the box then."""
    moved = positions + offset.astype(np.float32)
    return moved, np.all((moved >= 0) & (moved < box), axis=1)
