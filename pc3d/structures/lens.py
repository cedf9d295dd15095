"""Lens distortion: where a ray's picture lies, away from where a pinhole would put it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain

_STEPS = 4096          # of the search for where a lens folds back
_WIDEST = {False: 4.0, True: 12.0}  # tangent of the widest half angle looked at: 76 degrees, 85 for a fisheye


@dataclass(frozen=True)
class Lens:
    """OpenCV's distortion models; (x, y) = (X/Z, Y/Z) is an ideal point, r its length, the result in the same units.

    Perspective: s(r) = (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6).
    Fisheye: s(r) = t (1 + k1 t^2 + k2 t^4 + k3 t^6 + k4 t^8) / r with t = atan r.
    Both: x' = s x + 2 p1 x y + p2 (r^2 + 2 x^2), y' = s y + p1 (r^2 + 2 y^2) + 2 p2 x y.
    """

    k: tuple[float, ...]
    p: tuple[float, float] = (0.0, 0.0)
    fisheye: bool = False

    def __post_init__(self) -> None:
        if len(self.k) > (4 if self.fisheye else 6) or not np.isfinite([*self.k, *self.p]).all():
            raise DataError(explain("these are no lens coefficients", got=repr(self),
                                    expected="finite numbers: up to 6 k, of a fisheye 4, and 2 p"))

    def scale(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        """s(r), for any shape."""
        k = np.zeros(6)
        k[:len(self.k)] = self.k
        if self.fisheye:
            t = np.arctan(r)
            q = t * t
            return np.where(r > 1e-8, t / np.maximum(r, 1e-8), 1.0) * (1 + q * (k[0] + q * (k[1] + q * (k[2] + q * k[3]))))
        q = r * r
        return (1 + q * (k[0] + q * (k[1] + q * k[2]))) / (1 + q * (k[3] + q * (k[4] + q * k[5])))

    @cached_property
    def max_radius(self) -> float:
        """Largest r up to which s(r) r grows: beyond it the polynomial folds rays back into the picture."""
        r = np.linspace(0, _WIDEST[self.fisheye], _STEPS)
        with np.errstate(divide="ignore", invalid="ignore"):
            falls = ~(np.diff(self.scale(r) * r) > 0)
        return float(r[int(np.argmax(falls))] if falls.any() else r[-1])

    def distort(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Picture (N, 2) of ideal points (N, 2); NaN beyond ``max_radius``."""
        x, y = np.asarray(xy, dtype=np.float64).T
        r = np.hypot(x, y)
        s, q, (p1, p2) = np.where(r <= self.max_radius, self.scale(r), np.nan), r * r, self.p
        return np.stack([s * x + 2 * p1 * x * y + p2 * (q + 2 * x * x), s * y + p1 * (q + 2 * y * y) + 2 * p2 * x * y], axis=1)

    def undistort(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ideal points (N, 2) of pictures (N, 2): the radius by interpolation, then a few corrections for p1 and p2."""
        target = np.asarray(xy, dtype=np.float64)
        radii = np.linspace(0, self.max_radius, _STEPS)
        images = self.scale(radii) * radii
        shifted = target
        for _ in range(1 if self.p == (0.0, 0.0) else 8):
            length = np.linalg.norm(shifted, axis=1)
            ideal = shifted * (np.interp(length, images, radii) / np.maximum(length, 1e-12))[:, None]
            ideal[length < 1e-12] = 0
            x, y = ideal.T
            q, (p1, p2) = x * x + y * y, self.p
            bend = np.stack([2 * p1 * x * y + p2 * (q + 2 * x * x), p1 * (q + 2 * y * y) + 2 * p2 * x * y], axis=1)
            shifted = target - bend
        return ideal
