"""Kernel maps: which active voxel meets which through which tap of a sparse convolution.

A voxel is one 64-bit key (scan, x, y, z), so rows in key order are in (scan, x, y, z) order. All maps are made between
*sorted* keys: then the pairs of one tap ascend in both of their rows, which the convolution kernels count on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._library import define

FIELD_BITS = 16
BIAS = 64                                     # room for taps outside the grid: a kernel never borrows from the next field
MAX_EXTENT = (1 << FIELD_BITS) - 2 * BIAS     # voxels per axis
MAX_SCANS = 1 << (63 - 3 * FIELD_BITS)
MAX_KERNEL = BIAS

Triple = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class KernelMap:
    """P pairs of rows, grouped by the K taps of a kernel: tap k owns pairs ``tap_offsets[k]`` to ``tap_offsets[k + 1]``."""

    in_rows: Tensor      # (P,) int32, ascending within a tap
    out_rows: Tensor     # (P,) int32, ascending within a tap
    tap_offsets: Tensor  # (K+1,) int64
    num_in: int
    num_out: int
    mirrored: bool = False  # tap k from i to o is tap K-1-k from o to i
    is_swap: bool = False
    tiles: dict[bool, Any] = field(default_factory=dict)  # of this map and its swap, by is_swap; see sparse_tiles

    @property
    def num_taps(self) -> int:
        """Taps of the kernel: kx * ky * kz."""
        return len(self.tap_offsets) - 1

    def swapped(self) -> KernelMap:
        """The map of the inverse (transposed) convolution."""
        return KernelMap(self.out_rows, self.in_rows, self.tap_offsets, self.num_out, self.num_in, self.mirrored,
                         not self.is_swap, self.tiles)


def pack_keys(coords: Tensor) -> Tensor:
    """Pack (V, 4) integer scan, x, y, z into (V,) int64 keys that order as the rows do; see unpack_keys."""
    scan, x, y, z = coords.long().unbind(1)
    xyz = ((x + BIAS) << (2 * FIELD_BITS)) + ((y + BIAS) << FIELD_BITS) + (z + BIAS)
    return (scan << (3 * FIELD_BITS)) + xyz


def unpack_keys(keys: Tensor) -> Tensor:
    """The (V, 4) int32 coordinates scan, x, y, z of (V,) int64 keys."""
    mask = (1 << FIELD_BITS) - 1
    fields = [(keys >> (FIELD_BITS * i) & mask) - BIAS for i in (2, 1, 0)]
    return torch.stack([keys >> (3 * FIELD_BITS), *fields], 1).int()


def kernel_map(out_keys: Tensor, in_keys: Tensor, *, kernel_size: Triple, stride: Triple, padding: Triple) -> KernelMap:
    """Pair input and output voxels that meet in a tap: ``in = stride * out + tap - padding`` within a scan.

    Args: sorted unique keys, (M,) of the outputs and (N,) of the inputs. Taps count z fastest, as in [out, kx, ky, kz, in].
    """
    in_rows, out_rows, tap_offsets = _kernel_map_op(out_keys, in_keys, list(kernel_size), list(stride), list(padding))
    mirrored = out_keys is in_keys and stride == (1, 1, 1) and all(k == 2 * p + 1 for k, p in zip(kernel_size, padding))
    return KernelMap(in_rows, out_rows, tap_offsets, len(in_keys), len(out_keys), mirrored)


def coarse_keys(keys: Tensor, *, kernel_size: Triple, stride: Triple, padding: Triple, shape: Triple) -> Tensor:
    """Sorted keys of all voxels of a grid of ``shape`` that a strided convolution reaches from the (V,) sorted ``keys``."""
    return _coarse_keys_op(keys, list(kernel_size), list(stride), list(padding), list(shape))


def conv_shape(shape: Sequence[int], *, kernel_size: Triple, stride: Triple, padding: Triple) -> Triple:
    """Extent of a convolution's output grid, ``floor((n + 2p - k) / s) + 1`` per axis: k2 s2 drops an odd last plane."""
    x, y, z = (max((n + 2 * p - k) // s + 1, 0) for n, k, s, p in zip(shape, kernel_size, stride, padding))
    return x, y, z


def check_kernel(name: str, value: int | Sequence[int], *, low: int, high: int | Triple = MAX_KERNEL) -> Triple:
    """Spread an int over three axes and check the range, per axis if ``high`` is; raise DataError that names the argument."""
    triple = tuple(value) if isinstance(value, Sequence) else (value,) * 3
    highest = (high,) * 3 if isinstance(high, int) else high
    if len(triple) != 3 or not all(isinstance(v, Integral) and not isinstance(v, bool) and low <= v <= top
                                   for v, top in zip(triple, highest)):
        raise DataError(explain("not a valid size", where=name, got=value,
                                expected=f"one or three integers from {low} to {high}"))
    return int(triple[0]), int(triple[1]), int(triple[2])


def _taps(kernel_size: Sequence[int]) -> list[Triple]:
    x, y, z = kernel_size
    return list(product(range(x), range(y), range(z)))


def _kernel_map_reference(
    out_keys: Tensor, in_keys: Tensor, kernel_size: list[int], stride: list[int], padding: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    coords = unpack_keys(out_keys).long()
    scale = coords.new_tensor([1, *stride])
    found = []
    for tap in _taps(kernel_size):
        shift = coords.new_tensor([0, *(t - p for t, p in zip(tap, padding))])
        found.append(_match(pack_keys(coords * scale + shift), in_keys))
    counts = torch.tensor([0, *(len(out) for out, _ in found)], device=out_keys.device)
    out_rows = torch.cat([out for out, _ in found])
    in_rows = torch.cat([row for _, row in found])
    return in_rows.int(), out_rows.int(), counts.cumsum(0)


def _match(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the queries that are among the sorted keys, and the rows where they are."""
    if len(keys) == 0:
        return queries.new_empty(0), queries.new_empty(0)
    position = torch.searchsorted(keys, queries).clamp_(max=len(keys) - 1)
    rows = (keys[position] == queries).nonzero().squeeze(1)
    return rows, position[rows]


def _kernel_map_fake(
    out_keys: Tensor, in_keys: Tensor, kernel_size: list[int], stride: list[int], padding: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    num_pairs = torch.library.get_ctx().new_dynamic_size()
    rows = out_keys.new_empty(num_pairs, dtype=torch.int32)
    num_taps = kernel_size[0] * kernel_size[1] * kernel_size[2]
    return rows, torch.empty_like(rows), out_keys.new_empty(num_taps + 1)


def _coarse_keys_reference(
    keys: Tensor, kernel_size: list[int], stride: list[int], padding: list[int], shape: list[int]
) -> Tensor:
    coords = unpack_keys(keys).long()
    scale, limit = coords.new_tensor(stride), coords.new_tensor(shape)
    reached = []
    for tap in _taps(kernel_size):
        scaled = coords[:, 1:] - coords.new_tensor([t - p for t, p in zip(tap, padding)])
        coarse = scaled.div(scale, rounding_mode="floor")
        inside = ((coarse * scale == scaled) & (coarse >= 0) & (coarse < limit)).all(1)
        reached.append(pack_keys(torch.cat([coords[:, :1], coarse], 1)[inside]))
    return torch.cat(reached).unique()


def _coarse_keys_fake(keys: Tensor, kernel_size: list[int], stride: list[int], padding: list[int], shape: list[int]) -> Tensor:
    return keys.new_empty(torch.library.get_ctx().new_dynamic_size())


_kernel_map_op = define(
    "sparse_kernel_map(Tensor out_keys, Tensor in_keys, int[] kernel_size, int[] stride, int[] padding)"
    " -> (Tensor, Tensor, Tensor)",
    reference=_kernel_map_reference, fake=_kernel_map_fake,
)
_coarse_keys_op = define(
    "sparse_coarse_keys(Tensor keys, int[] kernel_size, int[] stride, int[] padding, int[] shape) -> Tensor",
    reference=_coarse_keys_reference, fake=_coarse_keys_fake,
)
