"""Where a point lands on the picture: views that look into a room from above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MARGIN = 0.96  # share of the picture the scan may fill


@dataclass(frozen=True, eq=False)
class View:
    """A camera for pictures: ``axes`` rows are right, up and forward in world coordinates; z is up in the world.

    ``scale`` is the focal length in pixels, or pixels per metre when ``orthographic``.
    """

    eye: NDArray[np.float64]   # (3,)
    axes: NDArray[np.float64]  # (3, 3)
    scale: float
    width: int
    height: int
    orthographic: bool = False

    def project(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return (N, 3): pixel column (to the right), pixel row (down) and depth in metres ahead of the eye."""
        local = (xyz.astype(np.float64) - self.eye) @ self.axes.T
        depth = local[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.full(len(xyz), self.scale) if self.orthographic else self.scale / depth
        return np.column_stack([self.width / 2 + scale * local[:, 0], self.height / 2 - scale * local[:, 1], depth])

    def scaled(self, factor: int) -> View:
        """Return the same view on a picture ``factor`` times as large."""
        return View(self.eye, self.axes, self.scale * factor, self.width * factor, self.height * factor, self.orthographic)


def room_view(xyz: NDArray[np.floating], *, width: int = 640, height: int | None = None, azimuth_deg: float | None = None,
              elevation_deg: float = 52.0, fov_deg: float = 30.0, orthographic: bool = False) -> View:
    """Return a three-quarter bird's-eye view that holds all points (N, 3).

    ``azimuth_deg`` is the compass direction the camera looks in, counter-clockwise from +x; by default it looks across the
    longer side of the floor plan, turned by 28 degrees. Without ``height`` the picture is as high as the scan needs.
    """
    points = typical_points(xyz)
    azimuth = floor_plan_angle(points) + np.radians(90.0 + 28.0) if azimuth_deg is None else np.radians(azimuth_deg)
    axes = _look(azimuth, np.radians(elevation_deg))
    local = points @ axes.T
    if not len(local):
        local = np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    slope = 0.0 if orthographic else np.tan(np.radians(fov_deg) / 2)
    center, distance = _frame(local, slope, 1.0 if height is None else height / width, free_height=height is None)
    spans = _spans(local - center, distance, slope)
    if height is None:
        height = int(np.clip(np.ceil(width * spans[1] / spans[0]), width // 3, 2 * width))
    scale = _MARGIN * min(width / spans[0], height / spans[1])
    return View((center - [0, 0, distance]) @ axes, axes, float(scale), width, height, orthographic)


def typical_points(xyz: NDArray[np.floating]) -> NDArray[np.float64]:
    """At most 50,000 finite points, evenly from the whole scan, without far stragglers."""
    points = xyz[np.isfinite(xyz).all(axis=1)]
    points = points[:: len(points) // 50_000 + 1].astype(np.float64)
    if len(points) < 1000:
        return points
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    return points[((points >= low - 0.1) & (points <= high + 0.1)).all(axis=1)]


def floor_plan_angle(points: NDArray[np.floating]) -> float:
    """Direction of the longer side of the smallest upright box around points (N, 3): radians from +x, to a degree."""
    if len(points) < 3:
        return 0.0
    angles = np.radians(np.arange(90))
    along = points[:, :1] * np.cos(angles) + points[:, 1:2] * np.sin(angles)
    across = points[:, 1:2] * np.cos(angles) - points[:, :1] * np.sin(angles)
    sides = np.ptp(along, axis=0), np.ptp(across, axis=0)
    best = int(np.argmin(sides[0] * sides[1]))
    return float(angles[best] + (0.0 if sides[0][best] >= sides[1][best] else np.pi / 2))


def _look(azimuth: float, elevation: float) -> NDArray[np.float64]:
    """Axes (right, up, forward) of a camera looking down by ``elevation``; right x up = -forward, so nothing is mirrored."""
    forward = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), -np.sin(elevation)])
    right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    return np.stack([right, np.cross(right, forward), forward])


def _frame(local: NDArray[np.float64], slope: float, aspect: float,
           free_height: bool) -> tuple[NDArray[np.float64], float]:
    """Find the centre (3,) in camera axes and the distance at which all points fit and sit in the middle."""
    center = (local.min(axis=0) + local.max(axis=0)) / 2
    distance = float(np.ptp(local[:, 2])) + 1.0
    if slope == 0.0:
        return center, distance
    for _ in range(4):
        shifted = local - center
        sides = np.abs(shifted[:, 0]) / slope
        if not free_height:
            sides = np.maximum(sides, np.abs(shifted[:, 1]) / (slope * aspect))
        distance = max(float((sides - shifted[:, 2]).max()), 0.1 - float(shifted[:, 2].min()))
        seen = shifted[:, :2] / (shifted[:, 2:] + distance)
        center = center + np.append((seen.min(axis=0) + seen.max(axis=0)) / 2 * distance, 0.0)
    return center, distance


def _spans(local: NDArray[np.float64], distance: float, slope: float) -> NDArray[np.float64]:
    """Width and height of the scan on a picture of unit scale, at least a millimetre."""
    seen = local[:, :2] if slope == 0.0 else local[:, :2] / (local[:, 2:] + distance)
    return np.maximum(2 * np.abs(seen).max(axis=0), 1e-3)
