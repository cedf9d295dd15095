"""Points moved, and mapped by a matrix, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.ops._checks import check_rows
from pc3d.ops._library import define


def map_points(points: Tensor, shift: Tensor, matrix: Tensor | None = None) -> Tensor:
    """The rows (N, 3) of ``(points + shift) @ matrix``; without a matrix only moved.

    points (N, 3), shift (3,), matrix (3, 3), float32. numpy and torch take several times as long for rows of three. Raises
    DataError.
    """
    check_rows("map_points", "points", points, 3, torch.float32)
    check_rows("map_points", "shift", shift[None], 3, torch.float32, rows=1)
    if matrix is not None:
        check_rows("map_points", "matrix", matrix, 3, torch.float32, rows=3)
    return _op(points.contiguous(), shift.contiguous(), points.new_empty(0, 3) if matrix is None else matrix.contiguous())


def _reference(points: Tensor, shift: Tensor, matrix: Tensor) -> Tensor:
    points = points + shift
    if not len(matrix):
        return points
    x, y, z = (points[:, axis, None] * matrix[axis] for axis in range(3))
    return x + y + z


def _fake(points: Tensor, shift: Tensor, matrix: Tensor) -> Tensor:
    return torch.empty_like(points)


_op = define("map_points(Tensor points, Tensor shift, Tensor matrix) -> Tensor", reference=_reference, fake=_fake)
