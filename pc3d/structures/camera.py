"""A camera and a posed image, with or without depth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.structures.lens import Lens

_RIGID = 1e-4   # scales this near to 1 are the rounding of written numbers


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels; pixel (u, v) = (fx x/z + cx, fy y/z + cy), OpenCV axes (x right, y down, z ahead).

    The middle of the first pixel is (0, 0). ``lens`` bends (x/z, y/z) first; None is a pinhole.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    lens: Lens | None = None

    def __post_init__(self) -> None:
        values = (self.width, self.height, self.fx, self.fy)
        if not np.isfinite([*values, self.cx, self.cy]).all() or min(values) <= 0:
            raise DataError(explain("camera intrinsics make no sense", got=repr(self),
                                    expected="finite pixels, with positive size and focal lengths"))

    @classmethod
    def from_matrix(cls, matrix: NDArray[np.floating], width: int, height: int, lens: Lens | None = None) -> Camera:
        """Build from a 3x3 (or 4x4) intrinsic matrix."""
        fx, fy, cx, cy = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        return cls(width, height, fx, fy, cx, cy, lens)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Intrinsic matrix (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the same image at another size; edges stay edges, so middles of pixels move by half a pixel."""
        sx, sy = width / self.width, height / self.height
        return replace(self, width=width, height=height, fx=sx * self.fx, fy=sy * self.fy,
                       cx=sx * (self.cx + 0.5) - 0.5, cy=sy * (self.cy + 0.5) - 0.5)

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Pixel (N, 2) of points (N, 3) in camera coordinates; NaN behind the camera and beyond what the lens can see."""
        points = np.asarray(points, dtype=np.float64)
        ahead = np.where(points[:, 2:] > 0, points[:, 2:], np.nan)
        ideal = points[:, :2] / ahead
        image = ideal if self.lens is None else self.lens.distort(ideal)
        return image * [self.fx, self.fy] + [self.cx, self.cy]

    def rays(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Direction (N, 3) with z = 1 of each pixel (N, 2): times depth it is the point in camera coordinates."""
        image = (np.asarray(pixels, dtype=np.float64) - [self.cx, self.cy]) / [self.fx, self.fy]
        ideal = image if self.lens is None else self.lens.undistort(image)
        return np.concatenate([ideal, np.ones((len(ideal), 1))], axis=1)


@dataclass(frozen=True, eq=False)
class Frame:
    """One posed image, small whatever its size: ``rgb`` and ``depth`` read their file each time they are asked for.

    ``T_world_camera`` maps camera to world coordinates; depth is in metres, 0 where there is none.
    """

    name: str
    camera: Camera                                          # of the colour image
    depth_camera: Camera
    T_world_camera: NDArray[np.float64]                     # (4, 4)
    read_rgb: Callable[[], NDArray[np.uint8]]               # -> (H, W, 3)
    read_depth: Callable[[], NDArray[np.float32]] | None    # -> (H, W) metres; None: colour only
    timestamp: float | None = None

    def __post_init__(self) -> None:
        pose = self.T_world_camera
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise DataError(explain("a camera pose must be a finite 4x4 matrix", where=f"frame {self.name}", got=pose.tolist(),
                                    do="Skip frames without a pose (ScanNet marks them with -inf)."))

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """Colour image (H, W, 3), RGB order; each access reads it."""
        return self.read_rgb()

    @property
    def has_depth(self) -> bool:
        """Whether a depth image belongs to the frame."""
        return self.read_depth is not None

    @property
    def depth(self) -> NDArray[np.float32]:
        """Depth image (H, W) in metres, 0 for none; each access reads it. Raises DataError for a frame without depth."""
        if self.read_depth is None:
            raise DataError(explain("the frame has no depth image", where=f"frame {self.name}"))
        return self.read_depth()

    def moved(self, T_new_world: NDArray[np.float64]) -> Frame:
        """The same frame in another world: its pose becomes T_new_world @ T_world_camera.

        A transform that scales (COLMAP's worlds have no metres) takes depth along, and the pose stays a rotation and a place.
        Raises DataError for one that mirrors.
        """
        pose, scale = T_new_world @ self.T_world_camera, float(np.cbrt(np.linalg.det(T_new_world[:3, :3])))
        if not scale > 0:
            raise DataError(explain("a transform of worlds must not mirror or flatten", got=T_new_world.tolist()))
        if abs(scale - 1) < _RIGID:
            return replace(self, T_world_camera=pose)
        pose[:3, :3] /= scale
        return replace(self.with_depth_times(scale), T_world_camera=pose)

    def with_depth_times(self, scale: float) -> Frame:
        """The same frame, its depth read and multiplied."""
        read = self.read_depth
        return self if read is None else replace(self, read_depth=lambda: read() * np.float32(scale))
