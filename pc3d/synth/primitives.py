"""Coloured triangle meshes and the few shapes all furniture is made of.

Units are metres, z is up. Every shape is a ``Mesh``; ``merge`` joins them, methods move and turn them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Surface kinds of a face; the scanner turns them into a pattern at the point a ray hits.
PLAIN, GRAIN, FABRIC, TILE, PLANK, GLASS, METAL, SCREEN = range(8)

Colour = Sequence[float]
Vector = Sequence[float] | NDArray[Any]


@dataclass(frozen=True, eq=False)
class Mesh:
    """V vertices and F triangles; colour (0-255) and surface kind belong to a triangle."""

    vertices: NDArray[np.float32]  # (V, 3)
    faces: NDArray[np.int32]  # (F, 3)
    colors: NDArray[np.uint8]  # (F, 3)
    surfaces: NDArray[np.uint8]  # (F,)

    @property
    def bounds(self) -> NDArray[np.float32]:
        """Lower and upper corner (2, 3)."""
        return np.stack([self.vertices.min(axis=0), self.vertices.max(axis=0)])

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
        """Shift by (x, y, z)."""
        return replace(self, vertices=self.vertices + np.array([x, y, z], dtype=np.float32))

    def rotated(self, angle: float, axis: str = "z") -> Mesh:
        """Turn by ``angle`` radians around a coordinate axis through the origin."""
        return replace(self, vertices=self.vertices @ rotation(angle, axis).T.astype(np.float32))

    def scaled(self, x: float, y: float, z: float) -> Mesh:
        """Scale each axis; factors are positive."""
        return replace(self, vertices=self.vertices * np.array([x, y, z], dtype=np.float32))

    def covered(self, surface: int) -> Mesh:
        """Give all faces one surface kind."""
        return replace(self, surfaces=np.full(len(self.faces), surface, dtype=np.uint8))


def rotation(angle: float, axis: str = "z") -> NDArray[np.float64]:
    """Rotation matrix (3, 3) around a coordinate axis."""
    c, s = np.cos(angle), np.sin(angle)
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first], matrix[first, second], matrix[second, first], matrix[second, second] = c, -s, s, c
    return matrix


def make_mesh(vertices: ArrayLike, faces: ArrayLike, color: Colour, surface: int = PLAIN) -> Mesh:
    """Build a mesh of one colour."""
    corners = np.asarray(faces, dtype=np.int32).reshape(-1, 3)
    shade = np.clip(np.asarray(color, dtype=np.float64), 0, 255).astype(np.uint8)
    return Mesh(
        np.asarray(vertices, dtype=np.float32).reshape(-1, 3),
        corners,
        np.tile(shade, (len(corners), 1)),
        np.full(len(corners), surface, dtype=np.uint8),
    )


def merge(*meshes: Mesh) -> Mesh:
    """Join meshes into one."""
    starts = np.cumsum([0, *[len(m.vertices) for m in meshes[:-1]]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + np.int32(start) for m, start in zip(meshes, starts)]),
        np.concatenate([m.colors for m in meshes]),
        np.concatenate([m.surfaces for m in meshes]),
    )


def _quads_to_faces(quads: NDArray[Any]) -> NDArray[np.int32]:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


_BOX_QUADS = np.array([[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]])


def box(size: Vector, color: Colour, at: Vector = (0, 0, 0), surface: int = PLAIN) -> Mesh:
    """Box of full ``size`` (x, y, z) whose bottom centre is ``at``."""
    corners = np.stack(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [0.0, 1.0], indexing="ij"), axis=-1).reshape(-1, 3)
    order = corners[:, [0, 1, 2]] * np.asarray(size) + np.asarray(at)
    # corners run over z fastest; the quads below count x fastest
    order = order.reshape(2, 2, 2, 3).transpose(2, 1, 0, 3).reshape(-1, 3)
    return make_mesh(order, _quads_to_faces(_BOX_QUADS), color, surface)


def rounded_box(
    size: Vector, color: Colour, at: Vector = (0, 0, 0), radius: float = 0.04, surface: int = PLAIN, bulge: float = 0.0
) -> Mesh:
    """Box with round edges, bottom centre at ``at``; ``bulge`` (metres) lifts the middle of the top, as in a cushion."""
    half = np.asarray(size, dtype=float) / 2
    radius = min(radius, float(half.min()) * 0.99)
    steps = radius * np.array([0.0, 0.29, 1.0])
    ticks = [np.concatenate([-h + steps, [0.0], h - steps[::-1]]) for h in half]
    sides = []
    for axis in range(3):
        first, second = [a for a in range(3) if a != axis]
        for sign in (-1.0, 1.0):
            grid = np.zeros((7, 7, 3))
            grid[..., axis] = sign * half[axis]
            grid[..., first], grid[..., second] = np.meshgrid(ticks[first], ticks[second], indexing="ij")
            sides.append(sheet(grid, color, surface))
    mesh = merge(*sides)
    core = np.clip(mesh.vertices, -half + radius, half - radius)
    away = mesh.vertices - core
    points = core + radius * away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    lift = bulge * np.prod(np.clip(1 - (points[:, :2] / half[:2]) ** 2, 0, 1), axis=1) * (points[:, 2] > 0)
    points[:, 2] += lift + half[2]
    return replace(mesh, vertices=(points + np.asarray(at)).astype(np.float32))


def sheet(grid: NDArray[Any], color: Colour, surface: int = PLAIN) -> Mesh:
    """Open surface through a grid of points (A, B, 3)."""
    rows, columns = grid.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    quads = np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], axis=-1).reshape(-1, 4)
    return make_mesh(grid, _quads_to_faces(quads), color, surface)


def lathe(
    profile: Sequence[tuple[float, float]],
    color: Colour,
    at: Sequence[float] = (0, 0, 0),
    segments: int = 16,
    surface: int = PLAIN,
) -> Mesh:
    """Turn a profile of (radius, height) pairs around the z axis through ``at``."""
    angles = np.linspace(0, 2 * np.pi, segments + 1)
    radius, height = np.asarray(profile, dtype=float).T
    grid = np.stack(
        [
            radius[:, None] * np.cos(angles),
            radius[:, None] * np.sin(angles),
            np.broadcast_to(height[:, None], (len(height), segments + 1)),
        ],
        axis=-1,
    )
    return sheet(grid + np.asarray(at), color, surface)


def cylinder(
    radius: float, height: float, color: Colour, at: Sequence[float] = (0, 0, 0), segments: int = 14, surface: int = PLAIN
) -> Mesh:
    """Closed upright cylinder with its bottom centre at ``at``."""
    return lathe([(0, 0), (radius, 0), (radius, height), (0, height)], color, at, segments, surface)


def bar(start: Sequence[float], end: Sequence[float], thickness: float, color: Colour, surface: int = PLAIN) -> Mesh:
    """Square bar between two points."""
    begin = np.asarray(start, dtype=float)
    along = np.asarray(end, dtype=float) - begin
    length = float(np.linalg.norm(along))
    forward = along / max(length, 1e-9)
    helper = np.array([1.0, 0, 0]) if abs(forward[0]) < 0.9 else np.array([0, 1.0, 0])
    side = np.cross(helper, forward)
    side /= np.linalg.norm(side)
    frame = np.stack([np.cross(side, forward), side, forward], axis=1)
    mesh = box((thickness, thickness, length), color, surface=surface)
    return replace(mesh, vertices=(mesh.vertices @ frame.T + begin).astype(np.float32))


def path(points: Sequence[Sequence[float]], thickness: float, color: Colour, surface: int = PLAIN) -> Mesh:
    """Bars along a line of points: handles, taps, lamp stems."""
    return merge(*[bar(a, b, thickness, color, surface) for a, b in pairwise(points)])


def panel(
    width: float, height: float, holes: Sequence[tuple[float, float, float, float]], color: Colour, surface: int = PLAIN
) -> Mesh:
    """Upright rectangle in the xz plane from (0, 0, 0), with rectangular holes (x0, x1, z0, z1) left open."""
    ticks_x = np.unique([0, width, *[x for hole in holes for x in hole[:2]]])
    ticks_z = np.unique([0, height, *[z for hole in holes for z in hole[2:]]])
    grid = np.zeros((len(ticks_x), len(ticks_z), 3))
    grid[..., 0], grid[..., 2] = np.meshgrid(ticks_x, ticks_z, indexing="ij")
    mesh = sheet(grid, color, surface)
    middle = mesh.vertices[mesh.faces].mean(axis=1)
    open_face = np.zeros(len(mesh.faces), dtype=bool)
    for x0, x1, z0, z1 in holes:
        open_face |= (middle[:, 0] > x0) & (middle[:, 0] < x1) & (middle[:, 2] > z0) & (middle[:, 2] < z1)
    return Mesh(mesh.vertices, mesh.faces[~open_face], mesh.colors[~open_face], mesh.surfaces[~open_face])
