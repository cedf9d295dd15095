"""Colours that tell instances apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GREY = (160, 160, 160)


def instance_colors(count: int) -> NDArray[np.uint8]:
    """Colours (I, 3) for I instances: hues a golden angle apart, so that neighbours in number differ, in three lightnesses."""
    rows = np.arange(count)
    hue = (rows * 0.618033988749895 + 0.55) % 1.0
    value, saturation = 0.95 - 0.15 * (rows % 3), 0.65 + 0.15 * ((rows // 3) % 2)
    spread = np.abs((hue[:, None] * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    unit = 1 - saturation[:, None] * (1 - np.clip(spread, 0, 1))
    return np.rint(255 * value[:, None] * unit).astype(np.uint8)
