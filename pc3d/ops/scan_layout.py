"""A scan laid out segment by segment, near points together, in blocks and pieces."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pc3d.ops._library import define, on_cpu

_BITS = 10  # of a cube's number along an axis


class ScanLayout(NamedTuple):
    """N points of S segments in B blocks, and in K pieces; both lie in a segment."""

    order: Tensor           # (N,) int64 points as they come
    points: Tensor          # (3, N) float32 where they are
    sizes: Tensor           # (S,) int64 points of each segment, by number
    block_starts: Tensor    # (B + 1,) int64
    block_owners: Tensor    # (B,) int64 segments
    boxes: Tensor           # (6, B) float32 centre, and half of each side
    piece_starts: Tensor    # (K + 1,) int64
    piece_owners: Tensor    # (K,) int64 segments
    piece_of_point: Tensor  # (N,) int32 of the points as they come
    point_to_piece: Tensor  # (N,) int64


def scan_layout(xyz: Tensor, segment: Tensor, block: int, piece: int) -> ScanLayout:
    """Lay points out by segment, in a segment along a Z-order curve, and cut that into blocks and pieces.

    ``xyz`` (N, 3) float32, N > 0; ``segment`` (N,) int64 from 0. The curve runs through 1024^3 cubes, which begin at the lowest
    coordinates and span the longest axis; points of one cube keep their order. Segments come by their first points. Blocks
    have at most ``block`` points and pieces ``piece``: as few as can be, and as even.

    Raises ValueError for arguments that do not fit, and coordinates that are not finite.
    """
    return ScanLayout(*_op(xyz, segment, block, piece))


def _reference(xyz: Tensor, segment: Tensor, block: int, piece: int) -> tuple[Tensor, ...]:
    above = xyz - xyz.amin(0)
    cells = (above * ((2**_BITS - 1) / max(float(above.max()), 1e-9))).long()
    bits = torch.arange(_BITS)
    order = ((cells[:, :, None] >> bits & 1) << 3 * bits + torch.arange(3)[:, None]).sum((1, 2)).argsort(stable=True)
    along, sizes = segment[order], segment.bincount()
    first = torch.full_like(sizes, len(order)).scatter_reduce(0, along, torch.arange(len(order)), "amin")
    order = order[first[along].argsort(stable=True)]
    points, sequence = xyz[order].T.contiguous(), first.argsort()[:int((sizes > 0).sum())]
    (block_starts, block_owners), (piece_starts, piece_owners) = (_cut(sequence, sizes, most) for most in (block, piece))

    to_block, to_piece = (torch.arange(len(starts) - 1).repeat_interleave(starts.diff())
                          for starts in (block_starts, piece_starts))
    none = points.new_zeros(3, len(block_owners))
    low, high = (none.scatter_reduce(1, to_block.expand(3, -1), points, how, include_self=False) for how in ("amin", "amax"))
    center = (low + high) / 2
    half = torch.maximum(high - center, center - low)
    return (order, points, sizes, block_starts, block_owners, torch.cat([center, half]), piece_starts, piece_owners,
            to_piece.int(), torch.empty_like(order).scatter(0, order, to_piece))


def _cut(sequence: Tensor, sizes: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Parts of at most ``most`` points: where each starts and its segment."""
    length = sizes[sequence]
    parts = (length + most - 1) // most
    run = torch.arange(len(sequence)).repeat_interleave(parts)
    part = torch.arange(len(run)) - (parts.cumsum(0) - parts)[run]
    starts = (length.cumsum(0) - length)[run] + part * length[run] // parts[run]
    return torch.cat([starts, length.sum()[None]]), sequence[run]


def _fake(xyz: Tensor, segment: Tensor, block: int, piece: int) -> tuple[Tensor, ...]:
    size = torch.library.get_ctx().new_dynamic_size
    blocks, pieces = size(), size()
    return (torch.empty_like(segment), xyz.new_empty(3, len(xyz)), segment.new_empty(size()), segment.new_empty(blocks + 1),
            segment.new_empty(blocks), xyz.new_empty(6, blocks), segment.new_empty(pieces + 1), segment.new_empty(pieces),
            torch.empty_like(segment, dtype=torch.int32), torch.empty_like(segment))


_op = define(
    "scan_layout(Tensor xyz, Tensor segment, int block, int piece) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, "
    "Tensor, Tensor, Tensor)", reference=on_cpu(_reference), fake=_fake)
