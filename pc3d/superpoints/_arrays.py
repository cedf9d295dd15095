"""From the user's arrays to what the ops take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain


def local_xyz(xyz: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Check points (N, 3) and return them as float32; wider types are moved near zero first to keep their digits."""
    points = np.asarray(xyz)
    if points.ndim != 2 or points.shape[1] != 3:
        raise DataError(explain("points must be rows of x, y, z", where=where, got=f"shape {points.shape}", expected="(N, 3)"))
    if not np.isfinite(points).all():
        finite = np.isfinite(points).all(axis=1)
        row = int(np.flatnonzero(~finite)[0])
        raise DataError(explain(f"{int((~finite).sum())} points are not finite", where=f"{where}:row {row}",
                                got=points[row].tolist(), expected="finite numbers"))
    if points.dtype != np.float32 and len(points):
        points = points - points.min(axis=0)
    return np.ascontiguousarray(points, dtype=np.float32)


def unit_rows(rows: NDArray[Any], count: int, where: str) -> NDArray[np.float32]:
    """Check given normals (N, 3) and return them with unit length; rows without a direction stay 0."""
    vectors = np.asarray(rows, dtype=np.float32)
    if vectors.shape != (count, 3) or not np.isfinite(vectors).all():
        raise DataError(explain("normals must be finite and fit the points", where=where, got=f"shape {vectors.shape}",
                                expected=f"finite ({count}, 3)"))
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.where(norm > 0, norm, 1))
