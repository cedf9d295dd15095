"""Scene S: a furnished room of 172,089 points, the size of a room of ScanNet, drawn from a seed.

Jittered grids of 2 cm cover a floor, four walls and the visible sides of eight boxes. They fill 139,864 voxels of 2 cm,
each with 7.4 neighbours among its 26. Every benchmark of the network's parts uses this scene.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pc3d.structures import PointCloud

Floats = NDArray[np.float64]
ROOM = (4.0, 3.2, 2.4)      # metres
WALL_HEIGHT = 0.75          # of the room's: scans rarely see walls up to the ceiling
NUM_BOXES = 8
STEP, NOISE = 0.02, 0.004  # metres between points, and sigma of the noise along a surface's normal


def make_scene(seed: int = 0) -> PointCloud:
    """Scene S as a mesh: points with colour, faces and instances (0 floor, 1 walls, then a number per box)."""
    rng = np.random.default_rng(seed)
    turn = rng.random() * 0.6
    instances, grids, faces = zip(*((instance, *_jittered_grid(*surface, rng)) for instance, surface in _surfaces(rng)))
    sizes = [len(grid) for grid in grids]
    starts = np.cumsum([0, *sizes[:-1]])
    xyz, ids = np.concatenate(grids) @ _rotation(turn).T, np.repeat(instances, sizes)
    return PointCloud(xyz=xyz.astype(np.float32), faces=np.concatenate([f + start for f, start in zip(faces, starts)]),
                      instances=ids, rgb=_colors(xyz, ids))


def scene_surfaces(seed: int = 0) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
    """The parallelograms of scene S: corners (B, 3), two sides (B, 2, 3), instances (B,), and how the room is turned (4, 4)."""
    rng = np.random.default_rng(seed)
    turn = _rotation(rng.random() * 0.6).T
    instances, parts = [], []
    for instance, surface in _surfaces(rng):
        _jittered_grid(*surface, rng)               # the boxes are drawn from what the grids leave
        instances.append(instance)
        parts.append(np.stack(surface) @ turn)
    corners, sides = np.split(np.array(parts), [1], axis=1)
    pose = np.eye(4)
    pose[:3, :3] = turn.T
    return corners[:, 0], sides, np.array(instances), pose


def voxel_coords(scene: PointCloud, voxel_size: float = 0.02) -> NDArray[np.int32]:
    """The occupied voxels (V, 4) of a scan: 0, x, y, z, sorted; from 0 on every axis."""
    cells = np.floor((scene.xyz - scene.xyz.min(axis=0)) / np.float32(voxel_size)).astype(np.int32)
    return np.pad(np.unique(cells, axis=0), ((0, 0), (1, 0)))


def _surfaces(rng: np.random.Generator) -> Iterator[tuple[int, tuple[Floats, Floats, Floats]]]:
    """Parallelograms (corner and two sides) with their instance; draws from ``rng`` between the grids that are made of them."""
    x, y, z = ROOM
    up = np.array([0, 0, z * WALL_HEIGHT])
    yield 0, _parallelogram((0, 0, 0), (x, 0, 0), (0, y, 0))
    for corner, side in (((0, 0, 0), (x, 0, 0)), ((0, 0, 0), (0, y, 0)), ((x, 0, 0), (0, y, 0)), ((0, y, 0), (x, 0, 0))):
        yield 1, _parallelogram(corner, side, up)
    for box in range(NUM_BOXES):
        for surface in _box_sides(rng):
            yield box + 2, surface


def _box_sides(rng: np.random.Generator) -> list[tuple[Floats, Floats, Floats]]:
    """Top and four sides of a box that stands somewhere on the floor."""
    center = np.array([rng.uniform(0.5, ROOM[0] - 0.5), rng.uniform(0.5, ROOM[1] - 0.5), 0])
    width, depth = rng.uniform(0.3, 1.2, 2)
    height = np.array([0, 0, rng.uniform(0.4, 1.4)])
    turned = _rotation(rng.random() * np.pi)
    u, v = turned[:, 0] * width, turned[:, 1] * depth
    corner = center - u / 2 - v / 2
    return [(corner + height, u, v), (corner, u, height), (corner, v, height), (corner + u, v, height), (corner + v, u, height)]


def _parallelogram(*parts: ArrayLike) -> tuple[Floats, Floats, Floats]:
    corner, first, second = (np.asarray(part, dtype=np.float64) for part in parts)
    return corner, first, second


def _jittered_grid(corner: Floats, u: Floats, v: Floats, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
    """Points (N, 3) every STEP, moved at random along the surface and a little off it; and the triangles between them."""
    rows, columns = (int(np.linalg.norm(side) / STEP) + 1 for side in (u, v))
    a, b = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    points = corner + a.reshape(-1, 1) * u + b.reshape(-1, 1) * v
    points = points + rng.normal(0, NOISE, points.shape) + (rng.random(points.shape) - 0.5) * STEP * 0.6
    normal = np.cross(u, v) / np.linalg.norm(np.cross(u, v))
    height = (points - corner) @ normal
    points += (rng.normal(0, NOISE, len(points)) - height)[:, None] * normal
    first = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    right, below = first + 1, first + columns
    return points, np.concatenate([np.stack([first, right, below], 1), np.stack([right, below + 1, below], 1)])


def _rotation(angle: float) -> Floats:
    """Rotation about z."""
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def _colors(xyz: Floats, instances: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A colour per instance with a slow wave in it; draws nothing, so that the points stay what they are."""
    base = np.stack([instances * 67 % 156, instances * 113 % 156, instances * 29 % 156], 1)
    return (base + 50 + 40 * np.sin(xyz * 5)).clip(0, 255).astype(np.uint8)
