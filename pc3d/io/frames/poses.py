"""Poses in the ways files write them; all become camera-to-world matrices with OpenCV axes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FormatError, explain
from pc3d.io.files import check_file

#: OpenGL's camera (x right, y up, z backwards) in OpenCV's axes: T_world_opencv = T_world_opengl @ OPENGL.
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def pose_fault(pose: NDArray[np.float64] | None) -> str | None:
    """Why a pose is no rigid motion, or None; published poses are rounded, hence the tolerance."""
    if pose is None:
        return "no pose"
    if not np.isfinite(pose).all():
        return "pose not finite (tracking lost)"
    rotation = pose[:3, :3]
    if not np.allclose(pose[3], [0, 0, 0, 1]) or np.abs(rotation @ rotation.T - np.eye(3)).max() >= 0.02:
        return "pose not rigid"
    return None if np.linalg.det(rotation) > 0 else "pose mirrors"


def from_quaternion(wxyz: NDArray[np.float64], translation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses (F, 4, 4) of quaternions (F, 4), real part first, and translations (F, 3); NaN where a quaternion is zero."""
    norm = np.linalg.norm(wxyz, axis=1, keepdims=True)
    w, x, y, z = (wxyz / np.where(norm > 0, norm, np.nan)).T
    poses = np.tile(np.eye(4), (len(wxyz), 1, 1))
    poses[:, :3, :3] = np.stack([
        np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=1),
        np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=1),
        np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1)], axis=1)
    poses[:, :3, 3] = translation
    return poses


def from_rotation_vector(vectors: NDArray[np.float64], translation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses (F, 4, 4) of rotation vectors (F, 3), radians about their own direction, and translations (F, 3)."""
    angle = np.linalg.norm(vectors, axis=1, keepdims=True)
    axis = vectors / np.where(angle > 0, angle, 1)
    return from_quaternion(np.concatenate([np.cos(angle / 2), np.sin(angle / 2) * axis], axis=1), translation)


def inverse(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of rigid poses (F, 4, 4)."""
    inverted = np.tile(np.eye(4), (len(poses), 1, 1))
    inverted[:, :3, :3] = poses[:, :3, :3].transpose(0, 2, 1)
    inverted[:, :3, 3] = -np.einsum("fij,fj->fi", inverted[:, :3, :3], poses[:, :3, 3])
    return inverted


def nearest(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Row of the nearest of ``times`` (ascending) for each wanted time, and how far off it is."""
    right = np.clip(np.searchsorted(times, wanted), 1, max(len(times) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(times) - 1)
    row = np.where(np.abs(times[left] - wanted) <= np.abs(times[right] - wanted), left, right)
    return row, np.abs(times[row] - wanted)


def read_matrices(path: Path) -> NDArray[np.float64]:
    """Matrices (F, 4, 4) from text: 16 or 12 numbers a line, or 4 lines of 4 each."""
    table = read_numbers(path)
    rows, width = table.shape
    if width == 16 or (width == 4 and rows % 4 == 0):
        return table.reshape(-1, 4, 4)
    if width == 12 or (width == 4 and rows == 3):
        bottom = np.array([[[0.0, 0, 0, 1]]])
        top = table.reshape(-1, 3, 4)
        return np.concatenate([top, np.tile(bottom, (len(top), 1, 1))], axis=1)
    raise FormatError(explain("these are no poses", where=path, got=f"{rows} rows of {width} numbers",
                              expected="4x4 matrices, row by row: 16 (or 12) numbers a line, or 4 lines of 4"))


def read_numbers(path: Path) -> NDArray[np.float64]:
    """Rows of numbers from text, commas or blanks between them, # for comments."""
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)    # numpy's own words for an empty file; ours follow
            table = np.loadtxt(path, dtype=np.float64, ndmin=2, delimiter="," if b"," in path.read_bytes() else None)
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(explain("these are not rows of numbers", where=path, got=str(error)[:200])) from error
    if table.size == 0:
        raise FormatError(explain("the file holds no numbers", where=path))
    return table


def read_intrinsics(path: Path) -> NDArray[np.float64]:
    """Intrinsic matrix (3, 3) from a text file of 3x3 or 4x4."""
    matrix = read_numbers(path)
    if matrix.size in (9, 16):
        matrix = matrix.reshape((3, 3) if matrix.size == 9 else (4, 4))[:3, :3]
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise FormatError(explain("these are no camera intrinsics", where=path, got=matrix.tolist(),
                                  expected="a 3x3 (or 4x4) matrix [fx 0 cx; 0 fy cy; 0 0 1] in pixels"))
    return matrix
