"""Sparse convolution over a kernel map: ``y[o] = sum over pairs (i, o) of tap k: W[:, k, :] x[i]``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._library import define, has_kernel
from pc3d.ops.sparse_map import KernelMap
from pc3d.ops.sparse_tiles import in_autocast, runs_in_tiles, sparse_conv_tiled

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def sparse_conv(x: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    """Convolve (N, Cin) input rows to (M, Cout) output rows along the pairs of a kernel map.

    ``y[o] = sum_k sum_{(i, o) in pairs_k} W[:, k, :] x[i]`` with weight (Cout, K, Cin); an output without pairs is 0.
    Half types are summed in float32 and rounded once. Differentiable in x and weight, twice. On CUDA float32 is exact unless
    torch lets matrix products use tf32, and autocast means its type, as for ``torch.mm``.
    Raises DataError when rows, channels, taps or dtypes do not fit together.
    """
    if runs_in_tiles(x):
        x, weight = in_autocast(x, weight)
        _check(x, weight, pairs)
        return sparse_conv_tiled(x, weight, pairs)
    _check(x, weight, pairs)
    if x.device.type == "cpu" and x.dtype == torch.float16:  # no processor multiplies it
        return sparse_conv(x.float(), weight.float(), pairs).to(x.dtype)
    result: Tensor = _conv_op(x, weight, pairs.in_rows, pairs.out_rows, pairs.tap_offsets, pairs.num_out)
    return result


def sparse_conv_norm_relu(
    xs: Sequence[Tensor], weight: Tensor, pairs: KernelMap, *, packed: Tensor | None = None, residual: Tensor | None = None,
    norms: Sequence[tuple[Tensor, Tensor]] = (), raw: bool = True, out: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Convolve, add, normalise and activate in one pass over the outputs; for inference, without gradients.

    With ``x`` the matrices ``xs`` side by side: ``y = sparse_conv(x, weight, pairs) + residual``. Returns y, if ``raw``, and
    then ``relu(scale * y + shift)`` for each (scale, shift) of ``norms``, vectors (Cout,) of float32 (float64 for float64).
    ``packed`` is pack_weight of the same weight, to spare its packing. ``out``, matrices (M, Cout) for the results, are filled
    and returned; the first may be the residual, none one of ``xs``. Native kernels only.
    """
    scales, shifts = [scale for scale, _ in norms], [shift for _, shift in norms]
    arguments = (list(xs), weight, packed, pairs.in_rows, pairs.out_rows, pairs.tap_offsets, pairs.num_out, residual, scales,
                 shifts, raw)
    if out is None:
        result: list[Tensor] = _norm_relu_op(*arguments)
        return result
    torch.ops.pc3d.native_conv_norm_relu_into(*arguments, list(out))
    return list(out)


def pack_weight(weight: Tensor, widths: Sequence[int]) -> Tensor | None:
    """A weight (Cout, K, Cin) as this machine's kernels read it, for inputs of these widths; None without kernels."""
    if not has_kernel("sparse_conv_norm_relu", weight.device.type.upper()):
        return None
    packed: Tensor = torch.ops.pc3d.native_pack_weight(weight, list(widths))
    return packed


def _check(x: Tensor, weight: Tensor, pairs: KernelMap) -> None:
    if x.ndim != 2 or x.shape[0] != pairs.num_in:
        raise DataError(explain("rows do not match the kernel map", where="x", got=tuple(x.shape),
                                expected=f"({pairs.num_in}, Cin)"))
    if weight.ndim != 3 or weight.shape[1:] != (pairs.num_taps, x.shape[1]):
        raise DataError(explain("does not fit the input and the kernel map", where="weight", got=tuple(weight.shape),
                                expected=f"(Cout, {pairs.num_taps}, {x.shape[1]})"))
    if x.dtype not in FLOATS:
        raise DataError(explain("rows of a type that is not convolved", where="x", got=x.dtype,
                                expected="float16, bfloat16, float32 or float64"))
    if x.dtype != weight.dtype:
        raise DataError(explain("x and weight need one floating dtype", where="weight", got=weight.dtype, expected=x.dtype))
    if x.device != weight.device or x.device != pairs.in_rows.device:
        raise DataError(explain("x, weight and kernel map are on different devices", where="weight", got=weight.device,
                                expected=x.device))


def _conv_reference(x: Tensor, weight: Tensor, in_rows: Tensor, out_rows: Tensor, tap_offsets: Tensor, num_out: int) -> Tensor:
    rows, weight = _summable(x), _summable(weight)
    y = rows.new_zeros(num_out, weight.shape[0])
    bounds = tap_offsets.tolist()
    for tap, (begin, end) in enumerate(pairwise(bounds)):
        if begin < end:
            product = rows[in_rows[begin:end]] @ weight[:, tap].t()
            y.index_add_(0, out_rows[begin:end], product.to(y.dtype))  # autocast makes it a half type
    return y.to(x.dtype)


def _summable(x: Tensor) -> Tensor:
    """Half types as float32, in which their sums are taken."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _norm_relu_reference(
    xs: list[Tensor], weight: Tensor, packed: Tensor | None, in_rows: Tensor, out_rows: Tensor, tap_offsets: Tensor,
    num_out: int, residual: Tensor | None, scales: list[Tensor], shifts: list[Tensor], raw: bool,
) -> list[Tensor]:
    y = _conv_op(_summable(torch.cat(xs, 1)), _summable(weight), in_rows, out_rows, tap_offsets, num_out)
    if residual is not None:
        y = y + residual
    activated = [torch.relu(scale * y + shift) for scale, shift in zip(scales, shifts)]
    return [t.to(weight.dtype) for t in ([y] if raw else []) + activated]


def _norm_relu_fake(
    xs: list[Tensor], weight: Tensor, packed: Tensor | None, in_rows: Tensor, out_rows: Tensor, tap_offsets: Tensor,
    num_out: int, residual: Tensor | None, scales: list[Tensor], shifts: list[Tensor], raw: bool,
) -> list[Tensor]:
    return [xs[0].new_empty(num_out, weight.shape[0]) for _ in range(raw + len(scales))]


def _conv_fake(x: Tensor, weight: Tensor, in_rows: Tensor, out_rows: Tensor, tap_offsets: Tensor, num_out: int) -> Tensor:
    return x.new_empty(num_out, weight.shape[0])


def _conv_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:5])


def _conv_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, in_rows, out_rows, tap_offsets = ctx.saved_tensors
    needs_x, needs_weight = ctx.needs_input_grad[:2]
    grad_x = _conv_op(grad, weight.transpose(0, 2), out_rows, in_rows, tap_offsets, x.shape[0]) if needs_x else None
    grad_weight = _weight_grad_op(x, grad, in_rows, out_rows, tap_offsets) if needs_weight else None
    return grad_x, grad_weight, None, None, None, None


def _weight_grad_reference(x: Tensor, grad: Tensor, in_rows: Tensor, out_rows: Tensor, tap_offsets: Tensor) -> Tensor:
    rows, grad = _summable(x), _summable(grad)
    bounds = tap_offsets.tolist()
    taps = [grad[out_rows[begin:end]].t() @ rows[in_rows[begin:end]] for begin, end in pairwise(bounds)]
    return torch.stack(taps, 1).to(x.dtype)


def _weight_grad_fake(x: Tensor, grad: Tensor, in_rows: Tensor, out_rows: Tensor, tap_offsets: Tensor) -> Tensor:
    return x.new_empty(grad.shape[1], len(tap_offsets) - 1, x.shape[1])


def _weight_grad_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _weight_grad_backward(ctx: Any, grad_weight: Tensor) -> tuple[Tensor | None, ...]:
    x, grad, in_rows, out_rows, tap_offsets = ctx.saved_tensors
    needs_x, needs_grad = ctx.needs_input_grad[:2]
    to_x = _conv_op(grad, grad_weight.transpose(0, 2), out_rows, in_rows, tap_offsets, x.shape[0]) if needs_x else None
    to_grad = _conv_op(x, grad_weight, in_rows, out_rows, tap_offsets, grad.shape[0]) if needs_grad else None
    return to_x, to_grad, None, None, None


_conv_op = define(
    "sparse_conv(Tensor x, Tensor weight, Tensor in_rows, Tensor out_rows, Tensor tap_offsets, SymInt num_out) -> Tensor",
    reference=_conv_reference, fake=_conv_fake, backward=_conv_backward, setup_context=_conv_setup,
)
_weight_grad_op = define(
    "sparse_conv_weight_grad(Tensor x, Tensor grad, Tensor in_rows, Tensor out_rows, Tensor tap_offsets) -> Tensor",
    reference=_weight_grad_reference, fake=_weight_grad_fake, backward=_weight_grad_backward, setup_context=_weight_grad_setup,
)
_norm_relu_op = define(
    "sparse_conv_norm_relu(Tensor[] xs, Tensor weight, Tensor? packed, Tensor in_rows, Tensor out_rows, Tensor tap_offsets,"
    " SymInt num_out, Tensor? residual, Tensor[] scales, Tensor[] shifts, bool raw) -> Tensor[]",
    reference=_norm_relu_reference, fake=_norm_relu_fake,
)
