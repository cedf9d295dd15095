"""Colours: one for each class, and as many distinct ones as there are instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Points that belong to no instance.
NEUTRAL = (222, 223, 226)

#: The colours ScanNet's benchmark draws its classes in.
SCANNET_COLORS: dict[str, tuple[int, int, int]] = {
    "wall": (174, 199, 232),
    "floor": (152, 223, 138),
    "cabinet": (31, 119, 180),
    "bed": (255, 187, 120),
    "chair": (188, 189, 34),
    "sofa": (140, 86, 75),
    "table": (255, 152, 150),
    "door": (214, 39, 40),
    "window": (197, 176, 213),
    "bookshelf": (148, 103, 189),
    "picture": (196, 156, 148),
    "counter": (23, 190, 207),
    "desk": (247, 182, 210),
    "curtain": (219, 219, 141),
    "refrigerator": (255, 127, 14),
    "shower curtain": (158, 218, 229),
    "toilet": (44, 160, 44),
    "sink": (112, 128, 144),
    "bathtub": (227, 119, 194),
    "otherfurniture": (82, 84, 163),
}

_GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))
# OKLCH lightness and chroma, taken in turn: of 3000 random choices of four, the one that keeps 60 colours furthest apart.
_TIERS = np.array([[0.69, 0.19], [0.71, 0.11], [0.55, 0.16], [0.76, 0.19]])


def distinct_colors(count: int) -> NDArray[np.uint8]:
    """Return colours (count, 3): hues step by the golden angle, lightness changes in turn; the first k never change.

    Spacing is in OKLCH, so neighbours differ to the eye by about the same amount.
    """
    row = np.arange(count)
    lightness, chroma = _TIERS[row % len(_TIERS)].T
    return oklch_to_rgb(lightness, chroma, 0.45 + row * _GOLDEN_ANGLE)


def class_colors(classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return one colour per class (C, 3): ScanNet's where it has the name, a distinct one where it has not."""
    others = iter(distinct_colors(len(classes)))
    known = [SCANNET_COLORS.get(name.lower()) for name in classes]
    return np.array([next(others) if color is None else color for color in known], dtype=np.uint8).reshape(-1, 3)


def oklch_to_rgb(lightness: NDArray[np.floating], chroma: NDArray[np.floating], hue: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Convert OKLCH (lightness 0..1, chroma, hue in radians; each (N,)) to sRGB (N, 3), clipped to what a screen shows.

    Source: B. Ottosson, "A perceptual color space for image processing", 2020.
    """
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    to_cone = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]])
    to_linear = np.array([[4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
                          [-0.0041960863, -0.7034186147, 1.7076147010]])
    linear = np.clip((lab @ to_cone.T) ** 3 @ to_linear.T, 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)
