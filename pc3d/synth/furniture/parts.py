"""What a piece of furniture is made of, and the colours it may have."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.synth.primitives import Mesh

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


def black(rng: np.random.Generator) -> RGB:
    """Black plastic, cloth or leather."""
    return hsv(rng.random(), rng.uniform(0, 0.15), rng.uniform(0.04, 0.18))


def paint(rng: np.random.Generator) -> RGB:
    """Furniture front: white, wood, grey or a colour."""
    kind = rng.choice(4, p=[0.35, 0.4, 0.15, 0.1])
    return [white, wood, grey, cloth][kind](rng)
