"""Elastic distortion of points: the augmentation of PointGroup and its descendants, Relation3D among them."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_rows
from pc3d.ops._library import define


def elastic(positions: Tensor, noise: Tensor, granularity: float, magnitude: float) -> Tensor:
    """Shift points by smooth noise: ``x + magnitude * blurred(x)``, in whatever unit ``granularity`` is.

    The white ``noise`` (3, X, Y, Z) lies on a grid around zero whose nodes are ``2 * granularity`` apart. It is blurred by a
    box of three nodes along x, y, z, x, y, z (zeros beyond the border) and read trilinearly; outside the grid it is 0.
    positions (N, 3) float32, X, Y, Z >= 2. Returns (N, 3) float32. Raises DataError.
    """
    check_rows("elastic", "positions", positions, 3, torch.float32)
    if noise.dtype != torch.float32 or noise.dim() != 4 or noise.shape[0] != 3 or min(noise.shape[1:]) < 2:
        raise DataError(explain("noise has the wrong type or shape", where="elastic", got=f"{noise.dtype} {tuple(noise.shape)}",
                                expected="torch.float32 (3, X, Y, Z), each at least 2"))
    if not granularity > 0:
        raise DataError(explain("granularity must be positive", where="elastic", got=granularity))
    return _op(positions, noise, granularity, magnitude)


def _reference(positions: Tensor, noise: Tensor, granularity: float, magnitude: float) -> Tensor:
    for axis in (1, 2, 3, 1, 2, 3):
        noise = _blur(noise, axis)
    size = torch.tensor(noise.shape[1:], device=noise.device)
    place = positions * (1 / (2 * granularity)) + (size - 1) * 0.5
    inside = ((place >= 0) & (place <= size - 1)).all(dim=1)
    place = torch.where(inside[:, None], place, 0)
    cell = torch.minimum(place.long(), size - 2)
    shift = _trilinear(noise, cell, place - cell)
    return positions + magnitude * torch.where(inside[:, None], shift, 0)


def _blur(noise: Tensor, axis: int) -> Tensor:
    length, padded = noise.shape[axis], torch.zeros_like(noise.narrow(axis, 0, 1))
    padded = torch.cat([padded, noise, padded], dim=axis)
    before, itself, after = (padded.narrow(axis, start, length) for start in range(3))
    return (before + itself + after) * (1 / 3)


def _trilinear(noise: Tensor, cell: Tensor, place: Tensor) -> Tensor:
    """Values (N, 3) at ``place`` in [0, 1] of the grid cells ``cell`` (N, 3): along x, then y, then z."""
    x, y, z = cell.unbind(1)
    corner = {(i, j, k): noise[:, x + i, y + j, z + k].T for i in (0, 1) for j in (0, 1) for k in (0, 1)}
    tx, ty, tz = (place[:, axis, None] for axis in range(3))
    rows = {(j, k): _mix(corner[0, j, k], corner[1, j, k], tx) for j in (0, 1) for k in (0, 1)}
    low, high = (_mix(rows[0, k], rows[1, k], ty) for k in (0, 1))
    return _mix(low, high, tz)


def _mix(a: Tensor, b: Tensor, place: Tensor) -> Tensor:
    return a + place * (b - a)


def _fake(positions: Tensor, noise: Tensor, granularity: float, magnitude: float) -> Tensor:
    return torch.empty_like(positions, memory_format=torch.contiguous_format)


_op = define("elastic(Tensor positions, Tensor noise, float granularity, float magnitude) -> Tensor",
             reference=_reference, fake=_fake)
