"""Boxes of masks over segments."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._library import define


def mask_boxes(logits: Tensor, xyz: Tensor) -> Tensor:
    """Lowest and highest corner (K, 6) of the segments at xyz (S, 3) with logits (K, S) above 0; no gradient.

    A mask without any has its likeliest segment, the first of equals. Half types are computed in float32.
    Raises DataError for shapes and types that do not fit, and without segments.
    """
    if logits.dim() != 2 or not logits.shape[1] or xyz.shape != (logits.shape[1], 3) or xyz.device != logits.device:
        raise DataError(explain("logits and places do not fit", where="mask_boxes",
                                got=f"{tuple(logits.shape)} and {tuple(xyz.shape)}",
                                expected="(K, S) and (S, 3), S at least 1"))
    wide = torch.promote_types(logits.dtype, torch.float32)
    result: Tensor = _boxes(logits.detach().to(wide), xyz.detach().to(wide)).to(xyz.dtype)
    return result


def _boxes_reference(logits: Tensor, xyz: Tensor) -> Tensor:
    inside = logits > 0
    inside.scatter_(1, logits.argmax(dim=1, keepdim=True), True)
    columns = [xyz[:, axis].expand(inside.shape) for axis in range(3)]
    low = [column.masked_fill(~inside, torch.inf).amin(dim=1) for column in columns]
    high = [column.masked_fill(~inside, -torch.inf).amax(dim=1) for column in columns]
    return torch.stack(low + high, dim=1)


_boxes = define(
    "mask_boxes(Tensor logits, Tensor xyz) -> Tensor",
    reference=_boxes_reference,
    fake=lambda logits, xyz: logits.new_empty(logits.shape[0], 6),
)
