"""How many points predicted and true instances share."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_ids
from pc3d.ops._library import define

_ROWS = 64  # masks that the reference unpacks at once


def shared_counts(bits: Tensor, segment: Tensor, number: Tensor, num_segments: int, num_numbers: int) -> Tensor:
    """Count for each of I masks over S segments the points of each number: ``|{n : number_n = g, segment_n in mask_i}|``.

    bits (I, ceil(S/8)) uint8 in little bit order, segment (N,) int64 in [0, S), number (N,) int64 in [0, num_numbers).
    Returns (I, num_numbers) int64. Raises DataError.
    """
    if bits.dtype != torch.uint8 or bits.dim() != 2 or bits.shape[1] != (num_segments + 7) // 8:
        raise DataError(explain("bits do not fit the segments", where="shared_counts", got=f"{bits.dtype} {tuple(bits.shape)}",
                                expected=f"torch.uint8 (any, {(num_segments + 7) // 8})"))
    for name, ids, count in (("segment", segment, num_segments), ("number", number, num_numbers)):
        if ids.dtype != torch.int64 or ids.shape != segment.shape[:1]:
            raise DataError(explain(f"{name} has the wrong type or shape", where="shared_counts",
                                    got=f"{ids.dtype} {tuple(ids.shape)}", expected=f"torch.int64 ({len(segment)},)"))
        check_ids("shared_counts", name, ids, count)
    return _op(bits, segment, number, num_segments, num_numbers)


def _reference(bits: Tensor, segment: Tensor, number: Tensor, num_segments: int, num_numbers: int) -> Tensor:
    place = torch.arange(8, dtype=torch.uint8, device=bits.device)
    counts = torch.zeros(len(bits), num_numbers, dtype=torch.int64, device=bits.device)
    for start in range(0, len(bits), _ROWS):
        masks = (bits[start:start + _ROWS, :, None] >> place & 1).flatten(1)[:, :num_segments]
        counts[start:start + _ROWS].index_add_(1, number, masks[:, segment].long())
    return counts


def _fake(bits: Tensor, segment: Tensor, number: Tensor, num_segments: int, num_numbers: int) -> Tensor:
    return segment.new_empty(len(bits), num_numbers)


_op = define("shared_counts(Tensor bits, Tensor segment, Tensor number, int num_segments, int num_numbers) -> Tensor",
             reference=_reference, fake=_fake)
