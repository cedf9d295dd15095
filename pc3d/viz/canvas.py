"""A picture one draws on: rectangles, lines and text, in place on (H, W, 3) uint8."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pc3d.viz.font import cover_polyline, text_mask, text_width

Color = tuple[int, int, int]

INK: Color = (38, 42, 51)
SOFT_INK: Color = (110, 116, 128)
RULE: Color = (222, 226, 232)


def blank(width: int, height: int, color: Color) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) of one colour."""
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = color
    return image


def paste(image: NDArray[np.uint8], part: NDArray[np.uint8], x: int, y: int) -> None:
    """Copy a picture onto another with its upper left corner at (x, y), cut off at the border."""
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + part.shape[1], image.shape[1]), min(y + part.shape[0], image.shape[0])
    if right > left and bottom > top:
        image[top:bottom, left:right] = part[top - y:bottom - y, left - x:right - x]


def fill(image: NDArray[np.uint8], x: int, y: int, width: int, height: int, color: Color) -> None:
    """Fill a rectangle."""
    image[max(y, 0):max(y + height, 0), max(x, 0):max(x + width, 0)] = color


def draw_text(image: NDArray[np.uint8], text: str, x: float, y: float, *, size: float = 11.0, color: Color = INK,
              align: Literal["left", "center", "right"] = "left", bold: bool = False, halo: Color | None = None) -> None:
    """Write one line; y is the baseline, ``size`` the height of capitals in pixels, ``halo`` a rim that lifts it off a scan."""
    shift = {"left": 0.0, "center": 0.5, "right": 1.0}[align] * text_width(text, size)
    for pass_color, weight in ((halo, 0.55), (color, 0.17 if bold else 0.13)):
        if pass_color is not None:
            mask, baseline = text_mask(text, size, weight)
            pad = int(np.ceil(size * weight)) + 1
            _blend(image, mask, round(x - shift) - pad, round(y) - baseline, pass_color)


def draw_line(image: NDArray[np.uint8], points: NDArray[np.floating], color: Color, width: float = 1.5) -> None:
    """Draw an anti-aliased line through points (K, 2): column, row."""
    mask = np.zeros(image.shape[:2], dtype=np.float32)
    cover_polyline(mask, np.asarray(points, dtype=np.float64), width)
    _blend(image, mask, 0, 0, color)


def _blend(image: NDArray[np.uint8], mask: NDArray[np.float32], x: int, y: int, color: Color) -> None:
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + mask.shape[1], image.shape[1]), min(y + mask.shape[0], image.shape[0])
    if right <= left or bottom <= top:
        return
    share = mask[top - y:bottom - y, left - x:right - x, None]
    window = image[top:bottom, left:right]
    window[:] = np.round(window * (1 - share) + np.array(color, dtype=np.float32) * share).astype(np.uint8)
