"""What a piece of furniture is made of, and the colours it may have."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.synth.primitives import Mesh, box, cylinder, merge, rounded_box

RGB = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Part:
    """One instance (``name`` is a class) or a piece of clutter (``name`` is empty)."""

    name: str
    mesh: Mesh

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Part:
        """Shift by (x, y, z)."""
        return Part(self.name, self.mesh.moved(x, y, z))

    def rotated(self, angle: float) -> Part:
        """Turn around the z axis."""
        return Part(self.name, self.mesh.rotated(angle))


def moved(parts: Iterable[Part], x: float = 0.0, y: float = 0.0, z: float = 0.0) -> list[Part]:
    """Shift all parts."""
    return [part.moved(x, y, z) for part in parts]


def rotated(parts: Iterable[Part], angle: float) -> list[Part]:
    """Turn all parts around the z axis."""
    return [part.rotated(angle) for part in parts]


def bounds(parts: Iterable[Part]) -> NDArray[np.float32]:
    """Lower and upper corner (2, 3) of all parts."""
    boxes = np.stack([part.mesh.bounds for part in parts])
    return np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])


def hsv(hue: float, saturation: float, value: float) -> RGB:
    """Colour in 0-255 from hue (turns), saturation and value in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return red * 255, green * 255, blue * 255


def tinted(color: RGB, factor: float) -> RGB:
    """Lighter (factor > 1) or darker copy of a colour."""
    red, green, blue = (min(255.0, c * factor) for c in color)
    return red, green, blue


def recolored(colors: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Colours (F, 3) of the same object in another finish: channels mixed and scaled, differences of brightness kept."""
    mixed = colors @ rng.dirichlet([0.6, 0.6, 0.6], 3).T * rng.uniform(0.6, 1.3)
    return np.clip(mixed, 0, 255).astype(np.uint8)


def wood(rng: np.random.Generator) -> RGB:
    """Brown from pale birch to dark walnut."""
    return hsv(rng.uniform(0.05, 0.11), rng.uniform(0.25, 0.65), rng.uniform(0.3, 0.9))


def cloth(rng: np.random.Generator) -> RGB:
    """Upholstery: mostly greys, beiges and blues, sometimes a strong colour."""
    if rng.random() < 0.3:
        return hsv(rng.random(), rng.uniform(0.4, 0.8), rng.uniform(0.3, 0.8))
    return hsv(rng.choice([0.08, 0.1, 0.6]) + rng.normal(0, 0.02), rng.uniform(0.03, 0.35), rng.uniform(0.15, 0.85))


def white(rng: np.random.Generator) -> RGB:
    """Off-white."""
    return hsv(rng.uniform(0.05, 0.18), rng.uniform(0, 0.12), rng.uniform(0.8, 0.97))


def grey(rng: np.random.Generator) -> RGB:
    """Neutral from black plastic to pale metal."""
    return hsv(0.6, rng.uniform(0, 0.08), rng.uniform(0.1, 0.75))


def paint(rng: np.random.Generator) -> RGB:
    """Furniture front: white, wood, grey or a colour."""
    kind = rng.choice(4, p=[0.35, 0.4, 0.15, 0.1])
    return [white, wood, grey, cloth][kind](rng)


def clutter(rng: np.random.Generator) -> Mesh:
    """One small thing as it stands on a table: cup, books, bottle, bowl, box or laptop."""
    color = hsv(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.2, 0.9))
    kind = rng.integers(5)
    if kind == 0:
        return cylinder(rng.uniform(0.03, 0.05), rng.uniform(0.08, 0.25), color, segments=10)
    if kind == 1:
        layers = [
            box(
                (rng.uniform(0.14, 0.2), rng.uniform(0.2, 0.27), 0.03),
                hsv(rng.random(), 0.5, rng.uniform(0.3, 0.9)),
                (0, 0, 0.03 * level),
            ).rotated(rng.normal(0, 0.15))
            for level in range(rng.integers(1, 5))
        ]
        return merge(*layers)
    if kind == 2:
        return rounded_box((rng.uniform(0.1, 0.25), rng.uniform(0.1, 0.2), rng.uniform(0.05, 0.18)), color, radius=0.02)
    if kind == 3:
        lid = box((0.33, 0.015, 0.22), grey(rng)).rotated(-0.3, "x").moved(0, 0.12, 0.02)
        return merge(box((0.33, 0.23, 0.02), grey(rng)), lid).rotated(rng.normal(0, 0.3))
    return cylinder(rng.uniform(0.07, 0.14), rng.uniform(0.04, 0.1), color, segments=12)


def scatter(rng: np.random.Generator, width: float, depth: float, height: float, count: int, spread: float = 0.8) -> list[Part]:
    """Clutter on a board of ``width`` x ``depth`` at ``height``."""
    parts = []
    for _ in range(count):
        x, y = rng.uniform(-0.5, 0.5, 2) * spread * np.array([width, depth])
        parts.append(Part("", clutter(rng).rotated(rng.uniform(-0.5, 0.5)).moved(x, y, height)))
    return parts
