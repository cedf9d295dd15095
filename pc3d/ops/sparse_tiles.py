"""Sparse convolution on CUDA: the pairs of a kernel map in tiles of outputs that read the same taps.

Tensor cores multiply whole blocks of rows, so a tap costs a tile as much for one pair as for all its outputs. Outputs are
therefore sorted by which taps they have (Gray code order of the mask, so that neighbours differ little), and a tile has a
step for each tap that any of its outputs has. Tiles are made once per map and kept with it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._library import define, has_kernel
from pc3d.ops.sparse_map import KernelMap

GROUP_ROWS = 16       # rows of one product of the tensor cores; known to csrc/sparse_tiles.h too
LARGE_MAP = 32_768    # outputs from which on there are enough tiles of 128 for a GPU
MASK_BITS = 62


class Tiles(NamedTuple):
    """T tiles of R outputs, and their E steps: a tap, and the input that each of the R outputs reads there."""

    out_rows: Tensor      # (T*R,) int32 output at each place, -1 past the last one
    step_offsets: Tensor  # (T+1,) int64
    steps: Tensor         # (E, 2) int32: tap, and a bit for each 16 places of which one has a pair
    in_rows: Tensor       # (E, R) int32 input at each place, -1 where there is no pair


def tiles_of(pairs: KernelMap) -> Tiles:
    """The tiles of a map, made on first use. A mirrored map and its swap have the same tiles but for the taps' numbers."""
    made = pairs.tiles
    if pairs.is_swap not in made:
        other = made.get(not pairs.is_swap)
        size = 128 if pairs.num_out >= LARGE_MAP else 64
        made[pairs.is_swap] = _mirror(other, pairs.num_taps) if pairs.mirrored and other else make_tiles(pairs, size)
    tiles: Tiles = made[pairs.is_swap]
    return tiles


def _mirror(tiles: Tiles, num_taps: int) -> Tiles:
    taps, groups = tiles.steps.unbind(1)
    return tiles._replace(steps=torch.stack([num_taps - 1 - taps, groups], 1))


def make_tiles(pairs: KernelMap, size: int) -> Tiles:
    """Group the outputs of a map into tiles of ``size`` = 64 or 128."""
    _check_rows(pairs)
    num_tiles = -(-pairs.num_out // size)
    outputs = pairs.out_rows.long()
    taps = torch.repeat_interleave(pairs.tap_offsets.diff(), output_size=len(outputs))
    order = _like_neighbours(outputs, taps, pairs)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    place_of_pair = place[outputs]
    slot = place_of_pair.div(size, rounding_mode="floor") * pairs.num_taps + taps  # of a tile and a tap

    used = torch.zeros(num_tiles * pairs.num_taps, dtype=torch.bool, device=order.device)
    used[slot] = True
    step_ends = used.cumsum(0)
    slots = used.nonzero().squeeze(1)
    in_rows = torch.full((len(slots), size), -1, dtype=torch.int32, device=order.device)
    in_rows[step_ends[slot] - 1, place_of_pair % size] = pairs.in_rows

    out_rows = torch.nn.functional.pad(order.int(), (0, num_tiles * size - pairs.num_out), value=-1)
    step_offsets = torch.nn.functional.pad(step_ends.view(num_tiles, pairs.num_taps)[:, -1], (1, 0))
    groups = (in_rows.view(-1, size // GROUP_ROWS, GROUP_ROWS) >= 0).any(2)
    bits = (groups << torch.arange(size // GROUP_ROWS, device=order.device)).sum(1)
    return Tiles(out_rows, step_offsets, torch.stack([slots % pairs.num_taps, bits], 1).int(), in_rows)


def _check_rows(pairs: KernelMap) -> None:
    """Kernels read memory where a map says: look once, when its tiles are made."""
    if len(pairs.in_rows) == 0:
        return
    ends = torch.stack([torch.stack(pairs.in_rows.aminmax()), torch.stack(pairs.out_rows.aminmax())]).tolist()
    for name, (low, high), count in zip(("in_rows", "out_rows"), ends, (pairs.num_in, pairs.num_out)):
        if low < 0 or high >= count:
            raise DataError(explain("rows are out of range", where=name, got=f"{low} to {high}", expected=f"0 to {count - 1}"))


def _like_neighbours(outputs: Tensor, taps: Tensor, pairs: KernelMap) -> Tensor:
    """The outputs in Gray code order of the masks of their taps; taps share bits where there are more than 62."""
    bit = taps * min(pairs.num_taps, MASK_BITS) // max(pairs.num_taps, 1)
    mask = torch.zeros(pairs.num_out, dtype=torch.int64, device=taps.device).index_add_(0, outputs, 1 << bit)
    mask &= (1 << MASK_BITS) - 1
    for shift in (1, 2, 4, 8, 16, 32):  # from Gray code to the place in its order
        mask ^= mask >> shift
    return mask.sort(stable=True).indices


def runs_in_tiles(x: Tensor) -> bool:
    """Whether the CUDA kernels of this module are there for a tensor."""
    return x.is_cuda and has_kernel("sparse_conv_tiled", "CUDA")


def in_autocast(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the type that autocast, where it is on, has matrix products in; float64 stays what it is."""
    device = x.device.type
    if not torch.is_autocast_enabled(device) or torch.float64 in (x.dtype, weight.dtype):
        return x, weight
    dtype = torch.get_autocast_dtype(device)
    return x.to(dtype), weight.to(dtype)


def sparse_conv_tiled(x: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    """What sparse_conv does, by the kernels of this module; rows, channels and dtypes were checked there.

    Float32 goes through tf32 where torch allows it for matrix products (``torch.set_float32_matmul_precision``).
    """
    result: Tensor = _Convolve.apply(x, weight, pairs, torch.backends.cuda.matmul.fp32_precision == "tf32")
    return result


class _Convolve(torch.autograd.Function):
    """The convolution over a map. Its gradient to x is the convolution over the swapped map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, pairs: KernelMap, tf32: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.pairs, ctx.tf32 = pairs, tf32
        result: Tensor = _tiled_op(x, weight, *tiles_of(pairs), pairs.num_out, tf32)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight = ctx.needs_input_grad[:2]
        grad_x = _Convolve.apply(grad, weight.transpose(0, 2), ctx.pairs.swapped(), ctx.tf32) if needs_x else None
        grad_weight = _WeightGradient.apply(x, grad, ctx.pairs, ctx.tf32) if needs_weight else None
        return grad_x, grad_weight, None, None


class _WeightGradient(torch.autograd.Function):
    """The gradient of the convolution to its weight, itself a bilinear map of x and grad."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grad: Tensor, pairs: KernelMap, tf32: bool) -> Tensor:
        ctx.save_for_backward(x, grad)
        ctx.pairs, ctx.tf32 = pairs, tf32
        result: Tensor = _weight_grad_op(x, grad, pairs.in_rows, pairs.out_rows, pairs.tap_offsets, tf32)
        return result

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, grad = ctx.saved_tensors
        needs_x, needs_grad = ctx.needs_input_grad[:2]
        to_x = _Convolve.apply(grad, upstream.transpose(0, 2), ctx.pairs.swapped(), ctx.tf32) if needs_x else None
        to_grad = _Convolve.apply(x, upstream, ctx.pairs, ctx.tf32) if needs_grad else None
        return to_x, to_grad, None, None


def _tiled_reference(x: Tensor, weight: Tensor, out_rows: Tensor, step_offsets: Tensor, steps: Tensor, in_rows: Tensor,
                     num_out: int, tf32: bool) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    y = torch.zeros(num_out, weight.shape[0], dtype=wide, device=x.device)
    tile_of_step = torch.repeat_interleave(step_offsets.diff())
    outputs = out_rows.view(-1, in_rows.shape[1])[tile_of_step]
    for tap in range(weight.shape[1]):
        at_tap = (steps[:, :1] == tap) & (in_rows >= 0)
        y.index_add_(0, outputs[at_tap], (x[in_rows[at_tap]].to(wide) @ weight[:, tap].to(wide).t()).to(wide))  # autocast
    return y.to(x.dtype)


def _tiled_fake(x: Tensor, weight: Tensor, out_rows: Tensor, step_offsets: Tensor, steps: Tensor, in_rows: Tensor,
                num_out: int, tf32: bool) -> Tensor:
    return x.new_empty(num_out, weight.shape[0])


def _weight_grad_reference(
    x: Tensor, grad: Tensor, in_rows: Tensor, out_rows: Tensor, tap_offsets: Tensor, tf32: bool,
) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    bounds = tap_offsets.tolist()
    taps = [grad[out_rows[begin:end]].to(wide).t() @ x[in_rows[begin:end]].to(wide) for begin, end in pairwise(bounds)]
    return torch.stack(taps, 1).to(x.dtype)


def _weight_grad_fake(x: Tensor, grad: Tensor, in_rows: Tensor, out_rows: Tensor, tap_offsets: Tensor, tf32: bool) -> Tensor:
    return x.new_empty(grad.shape[1], len(tap_offsets) - 1, x.shape[1])


_tiled_op = define(
    "sparse_conv_tiled(Tensor x, Tensor weight, Tensor out_rows, Tensor step_offsets, Tensor steps, Tensor in_rows,"
    " SymInt num_out, bool tf32) -> Tensor",
    reference=_tiled_reference, fake=_tiled_fake,
)
_weight_grad_op = define(
    "sparse_conv_tiled_weight_grad(Tensor x, Tensor grad, Tensor in_rows, Tensor out_rows, Tensor tap_offsets, bool tf32)"
    " -> Tensor",
    reference=_weight_grad_reference, fake=_weight_grad_fake,
)
