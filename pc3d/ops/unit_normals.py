"""Normals as they are kept on disk, three signed bytes, back to unit length."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.ops._checks import check_rows
from pc3d.ops._library import define


def unit_normals(bytes_: Tensor) -> Tensor:
    """Directions (N, 3) int8 as float32 of length 1; zeros stay zeros. Raises DataError."""
    check_rows("unit_normals", "bytes", bytes_, 3, torch.int8)
    return _op(bytes_.contiguous())


def _reference(bytes_: Tensor) -> Tensor:
    length = bytes_.double().norm(dim=1, keepdim=True).float()  # torch's float32 sqrt is an ulp off on some processors
    return bytes_.float() * (1 / torch.where(length > 0, length, 1))


def _fake(bytes_: Tensor) -> Tensor:
    return torch.empty_like(bytes_, dtype=torch.float32)


_op = define("unit_normals(Tensor bytes) -> Tensor", reference=_reference, fake=_fake)
