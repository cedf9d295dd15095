"""Colour of what a ray hits: surface pattern, light, exposure, image noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.synth.primitives import FABRIC, GLASS, GRAIN, METAL, PLANK, SCREEN, TILE
from pc3d.synth.rooms import Room


@dataclass(frozen=True, eq=False)
class Shader:
    """Light and camera of one scan."""

    colors: NDArray[np.float32]  # (F, 3) in 0-1
    surfaces: NDArray[np.uint8]  # (F,)
    lamp: NDArray[np.float32]  # (3,) position in the room
    ambient: np.float32
    tint: NDArray[np.float32]  # (3,) white balance
    target: float  # mean brightness that the camera's exposure aims at
    blur: float  # how fast the hand moves: length of the motion blur in pixels
    glass_dropout: float
    dark_dropout: float  # share of patches of black and shiny things that never return depth

    @classmethod
    def draw(cls, room: Room, rng: np.random.Generator) -> Shader:
        """Choose the light of a scan."""
        lamp = room.size * np.array([*rng.uniform(0.25, 0.75, 2), 0.95])
        return cls(
            room.mesh.colors.astype(np.float32) / np.float32(255),
            room.mesh.surfaces,
            lamp.astype(np.float32),
            np.float32(rng.uniform(0.3, 0.75)),
            np.clip(1 + rng.normal(0, rng.choice([0.03, 0.12]), 3), 0.6, 1.4).astype(np.float32),
            float(rng.uniform(0.26, 0.6)),
            float(rng.choice([0.0, rng.uniform(1, 6)])),
            float(rng.choice([0.05, 0.95])),
            float(rng.choice([0.0, rng.uniform(0.05, 0.6)])),
        )

    def dropout(self, points: NDArray[np.float32], face: NDArray[np.int64]) -> NDArray[np.float32]:
        """Chance (N,) that the depth camera gets nothing back from a triangle (-1 for a miss).

        Black and shiny things keep their holes from view to view: patches of 9 cm return nothing, the rest does.
        """
        chance = np.zeros(256, np.float32)
        chance[GLASS], chance[METAL], chance[SCREEN] = self.glass_dropout, 0.08, 0.2
        lost = chance[self.surfaces[face]]
        swallows = np.flatnonzero((self.colors[face].max(axis=1) < 0.2) | (self.surfaces[face] == SCREEN))
        patch = _hash(np.floor(points[swallows] / np.float32(0.09)))
        lost[swallows] = np.where(patch < self.dark_dropout, np.float32(0.98), lost[swallows])
        return np.where(face >= 0, lost, np.float32(1))

    def shade(
        self,
        points: NDArray[np.float32],
        normals: NDArray[np.float32],
        face: NDArray[np.int64],
        openness: NDArray[np.float32],
        rng: np.random.Generator,
    ) -> NDArray[np.uint8]:
        """Colours (N, 3) of hit points in the room frame, under this frame's exposure; black for a miss.

        ``openness`` (N,) is 1 where light comes from all sides and 0 in the deepest corner.
        """
        to_lamp = self.lamp - points
        squared = np.einsum("ij,ij->i", to_lamp, to_lamp)
        lit = np.abs(np.einsum("ij,ij->i", to_lamp, normals)) / np.sqrt(np.maximum(squared, 1e-6))
        light = self.ambient + (1 - self.ambient) * lit * 6 / (3 + squared) + np.float32(0.06) * normals[:, 2]
        light *= np.float32(0.5) + np.float32(0.5) * openness
        light *= pattern(points, self.surfaces[face]) * (face >= 0)
        color = self.colors[face] * light[:, None] * self.tint
        exposure = np.float32(np.clip(self.target / max(float(color.mean()), 1e-3), 0.5, 1.6) * rng.normal(1, 0.05) * 255)
        color *= exposure
        color += rng.standard_normal(len(points), dtype=np.float32)[:, None] * np.float32(3.0)
        return np.clip(color, 0, 255, out=color).astype(np.uint8)


def blurred(rgb: NDArray[np.uint8], length: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """An image (H, W, 3) smeared over ``length`` pixels in some direction."""
    steps = round(length)
    if steps < 1:
        return rgb
    angle = rng.uniform(0, np.pi)
    shifts = np.rint(np.outer(np.linspace(-0.5, 0.5, steps + 1) * length, [np.sin(angle), np.cos(angle)])).astype(int)
    copies = [np.roll(rgb, (int(dy), int(dx)), axis=(0, 1)) for dy, dx in shifts]
    return np.asarray(np.sum(copies, axis=0, dtype=np.uint16) // len(shifts)).astype(np.uint8)


def pattern(points: NDArray[np.float32], surfaces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Brightness factor (N,) of the surface pattern: wood grain, cloth, tiles with grout, planks."""
    rows = np.flatnonzero(_STRENGTH[surfaces])
    kind, spot = surfaces[rows], points[rows]
    factor = np.ones(len(points), dtype=np.float32)
    factor[rows] += _STRENGTH[kind] * (_hash(np.floor(spot * _FREQUENCY[kind])) - np.float32(0.5))
    tile = np.flatnonzero(kind == TILE)
    grout = (np.mod(spot[tile, :2], 0.33) < 0.02).any(axis=1)
    factor[rows[tile[grout]]] *= 0.7
    return factor


def _cell_table() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Strength (256,) and cells a metre (256, 3) of the pattern of each surface kind."""
    strength, frequency = np.zeros(256, np.float32), np.ones((256, 3), np.float32)
    for kind, (cell, factor) in {
        GRAIN: ((0.35, 0.06, 0.045), 0.16),
        FABRIC: ((0.03, 0.03, 0.03), 0.12),
        TILE: ((0.33, 0.33, 10.0), 0.08),
        PLANK: ((1.1, 0.13, 10.0), 0.3),
    }.items():
        strength[kind], frequency[kind] = factor, 1 / np.array(cell)
    return strength, frequency


_STRENGTH, _FREQUENCY = _cell_table()


def _hash(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reproducible noise in [0, 1) of integer cells (N, 3)."""
    value = np.sin(cells @ np.array([12.9898, 78.233, 37.719], np.float32)) * np.float32(43758.547)
    return value - np.floor(value)
