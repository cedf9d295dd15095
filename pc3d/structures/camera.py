"""A pinhole camera and a posed RGB-D frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels; pixel (u, v) = (fx x/z + cx, fy y/z + cy), OpenCV axes (x right, y down, z ahead)."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        values = (self.width, self.height, self.fx, self.fy)
        if not np.isfinite([*values, self.cx, self.cy]).all() or min(values) <= 0:
            raise DataError(explain("camera intrinsics make no sense", got=repr(self),
                                    expected="finite pixels, with positive size and focal lengths"))

    @classmethod
    def from_matrix(cls, matrix: NDArray[np.floating], width: int, height: int) -> Camera:
        """Build from a 3x3 (or 4x4) intrinsic matrix."""
        return cls(width, height, float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2]))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Intrinsic matrix (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])


@dataclass(frozen=True, eq=False)
class Frame:
    """One posed RGB-D image, small whatever its size: ``rgb`` and ``depth`` read their file each time they are asked for.

    ``T_world_camera`` maps camera to world coordinates; depth is in metres, 0 where there is none.
    """

    name: str
    camera: Camera                                   # of the colour image
    depth_camera: Camera
    T_world_camera: NDArray[np.float64]              # (4, 4)
    read_rgb: Callable[[], NDArray[np.uint8]]        # -> (H, W, 3)
    read_depth: Callable[[], NDArray[np.float32]]    # -> (H, W) metres
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
    def depth(self) -> NDArray[np.float32]:
        """Depth image (H, W) in metres, 0 for none; each access reads it."""
        return self.read_depth()
