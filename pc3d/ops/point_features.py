"""What the network reads of a point, written in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.ops._checks import check_rows
from pc3d.ops._library import define


def point_features(rgb: Tensor | None, xyz: Tensor, normals: Tensor | None, color_shift: Tensor) -> Tensor:
    """Point features (N, 9): rgb in [-1, 1] plus a shift, xyz, normal; zeros where a column is None.

    rgb (N, 3) uint8, xyz and normals (N, 3) float32, color_shift (3,) float32. Raises DataError.
    """
    check_rows("point_features", "xyz", xyz, 3, torch.float32)
    rgb = xyz.new_empty(0, 3, dtype=torch.uint8) if rgb is None else rgb
    normals = xyz.new_empty(0, 3) if normals is None else normals
    for name, rows, dtype in (("rgb", rgb, torch.uint8), ("normals", normals, torch.float32)):
        check_rows("point_features", name, rows, 3, dtype, rows=len(xyz) if len(rows) else None)
    check_rows("point_features", "color_shift", color_shift[None], 3, torch.float32, rows=1)
    return _op(rgb.contiguous(), xyz.contiguous(), normals.contiguous(), color_shift.contiguous())


def _reference(rgb: Tensor, xyz: Tensor, normals: Tensor, shift: Tensor) -> Tensor:
    color = rgb.float() / 127.5 - 1 + shift if len(rgb) else torch.zeros_like(xyz)
    return torch.cat([color, xyz, normals if len(normals) else torch.zeros_like(xyz)], dim=1)


def _fake(rgb: Tensor, xyz: Tensor, normals: Tensor, shift: Tensor) -> Tensor:
    return xyz.new_empty(len(xyz), 9)


_op = define("point_features(Tensor rgb, Tensor xyz, Tensor normals, Tensor shift) -> Tensor", reference=_reference, fake=_fake)
