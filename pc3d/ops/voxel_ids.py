"""Which points share a voxel."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_rows
from pc3d.ops._library import define

LIMIT = 1 << 16  # voxels per axis


def voxel_ids(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Group points into voxels of size 1: the distinct ``floor(positions)`` by rising (x, y, z), and the one of each point.

    positions (N, 3) float32 in [0, 65536). Returns (V, 3) int32 and (N,) int64. Raises DataError.
    """
    check_rows("voxel_ids", "positions", positions, 3, torch.float32)
    if len(positions):
        low, high = (float(value) for value in positions.aminmax())
        if not (low >= 0 and high < LIMIT):
            raise DataError(explain("positions out of range", where="voxel_ids", got=f"[{low}, {high}]",
                                    expected=f"[0, {LIMIT})"))
    return _op(positions)


def _reference(positions: Tensor) -> tuple[Tensor, Tensor]:
    voxels, voxel_of = positions.int().unique(dim=0, return_inverse=True)
    return voxels, voxel_of


def _fake(positions: Tensor) -> tuple[Tensor, Tensor]:
    voxels = torch.library.get_ctx().new_dynamic_size()
    return positions.new_empty(voxels, 3, dtype=torch.int32), positions.new_empty(len(positions), dtype=torch.int64)


_op = define("voxel_ids(Tensor positions) -> (Tensor, Tensor)", reference=_reference, fake=_fake)
