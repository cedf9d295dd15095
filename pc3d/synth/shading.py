"""Colour of what a ray hits: surface pattern, light, exposure, image noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.synth.primitives import FABRIC, GLASS, GRAIN, METAL, PLANK, TILE
from pc3d.synth.rooms import Room


@dataclass(frozen=True, eq=False)
class Shader:
    """Light and camera of one scan."""

    colors: NDArray[np.float32]       # (F, 3) in 0-1
    surfaces: NDArray[np.uint8]       # (F,)
    lamp: NDArray[np.float64]         # (3,) position in the room
    ambient: float
    tint: NDArray[np.float64]         # (3,) white balance
    glass_dropout: float

    @classmethod
    def draw(cls, room: Room, rng: np.random.Generator) -> Shader:
        """Choose the light of a scan."""
        lamp = room.size * np.array([*rng.uniform(0.25, 0.75, 2), 0.95])
        return cls(room.mesh.colors.astype(np.float32) / 255, room.mesh.surfaces, lamp, rng.uniform(0.45, 0.7),
                   1 + rng.normal(0, 0.04, 3), rng.choice([0.05, 0.95]))

    def dropout(self, face: NDArray[np.int64]) -> NDArray[np.float64]:
        """Chance that the depth camera gets nothing back from a triangle (-1 for a miss)."""
        chance = np.zeros(256)
        chance[GLASS], chance[METAL] = self.glass_dropout, 0.08
        return np.where(face >= 0, chance[self.surfaces[face]], 1.0)

    def shade(self, points: NDArray[np.float64], normals: NDArray[np.float32], face: NDArray[np.int64],
              rng: np.random.Generator) -> NDArray[np.uint8]:
        """Colours (N, 3) of hit points in the room frame, under this frame's exposure; black for a miss."""
        to_lamp = self.lamp - points
        distance = np.linalg.norm(to_lamp, axis=1)
        lit = np.abs(np.einsum("ij,ij->i", to_lamp, normals)) / np.maximum(distance, 1e-6)
        light = self.ambient + (1 - self.ambient) * lit * 6 / (3 + distance**2) + 0.06 * normals[:, 2]
        light *= pattern(points, self.surfaces[face])
        color = self.colors[face] * light[:, None] * self.tint
        exposure = np.clip(0.5 / max(float(color.mean()), 1e-3), 0.8, 1.35) * rng.normal(1, 0.05)
        color = color * exposure + rng.normal(0, 0.012, len(points))[:, None]
        return (np.clip(np.where(face[:, None] >= 0, color, 0), 0, 1) * 255).astype(np.uint8)


def pattern(points: NDArray[np.float64], surfaces: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Brightness factor (N,) of the surface pattern: wood grain, cloth, tiles with grout, planks."""
    factor = np.ones(len(points))
    for kind, (cell, strength) in _CELLS.items():
        rows = np.flatnonzero(surfaces == kind)
        factor[rows] += strength * (_hash(np.floor(points[rows] / cell)) - 0.5)
    tile = np.flatnonzero(surfaces == TILE)
    grout = (np.mod(points[tile, :2], 0.33) < 0.02).any(axis=1)
    factor[tile[grout]] *= 0.7
    return factor


_CELLS = {GRAIN: (np.array([0.35, 0.06, 0.045]), 0.16), FABRIC: (np.array([0.03, 0.03, 0.03]), 0.12),
          TILE: (np.array([0.33, 0.33, 10.0]), 0.08), PLANK: (np.array([1.1, 0.13, 10.0]), 0.3)}


def _hash(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reproducible noise in [0, 1) of integer cells (N, 3)."""
    value = np.sin(cells @ np.array([12.9898, 78.233, 37.719])) * 43758.5453
    return value - np.floor(value)
