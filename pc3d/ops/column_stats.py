"""Least, greatest and mean of each coordinate, in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_rows
from pc3d.ops._library import define


def column_stats(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The least, greatest and mean coordinates (3,), float64, of points (N, 3) float32 with N >= 1. Raises DataError."""
    check_rows("column_stats", "points", points, 3, torch.float32)
    if not len(points):
        raise DataError(explain("there are no points", where="column_stats"))
    low, high, mean = _op(points.contiguous())
    return low, high, mean


def _reference(points: Tensor) -> Tensor:
    return torch.stack([points.amin(0).double(), points.amax(0).double(), points.double().mean(0)])


def _fake(points: Tensor) -> Tensor:
    return points.new_empty(3, 3, dtype=torch.float64)


_op = define("column_stats(Tensor points) -> Tensor", reference=_reference, fake=_fake)
