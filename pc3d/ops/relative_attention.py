"""Cross-attention with contextual relative positions, without a tensor of pairs.

For query i and key j of one scan, per head, with e channels (MAFT, Lai et al. 2023):

    logit_ij = [qc_i, qs_i] . [kc_j, kp_j] / sqrt(2 e)  +  sum_a (qc_i . Tq[a, n_a] / sqrt(2 e)  +  kc_j . Tk[a, n_a])
    n_a      = clamp(floor((x_i - x_j)_a / grid), -G, G - 1) + G                          for the axes a = x, y, z
    o_i      = sum_j softmax_j(logit)_ij (v_j + sum_a Tv[a, n_a])

The reference makes (H, K, M) logits; the CPU kernel makes none. The backward pass computes those of its scan anew, so that
training keeps nothing of that size either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._library import define, has_kernel
from pc3d.ops.relative import relative_add, relative_read

AVX2 = 1  # the first instruction set that has a kernel: Isa of csrc/pc3d.h


@dataclass(frozen=True)
class AttentionSide:
    """The queries, or the keys, of one scan: R rows of H heads with e channels each."""

    content: Tensor    # (R, H e)
    position: Tensor   # (R, H e)
    xyz: Tensor        # (R, 3) metres


@dataclass(frozen=True)
class PositionTables:
    """What a relative position says to queries and to keys, and what it is worth itself; columns x, then y, then z."""

    query: Tensor      # (H, e, 6 G)
    key: Tensor        # (H, e, 6 G)
    value: Tensor      # (H, e, 6 G)


def relative_attention(query: AttentionSide, key: AttentionSide, value: Tensor, tables: PositionTables, grid_size: float,
                       blocked: Tensor | None = None) -> Tensor:
    """What K queries read from M keys with values (M, H e): (K, H e); blocked (K, M) is true where a query may not look.

    Half types are computed in float32. Raises DataError for shapes and types that do not fit.
    """
    _check(query, key, value, tables, blocked)
    wide = torch.promote_types(value.dtype, torch.float32)
    rows = (query.content, query.position, query.xyz, key.content, key.position, value, key.xyz,
            tables.query, tables.key, tables.value)
    run: Callable[..., Tensor] = _attention if value.is_cpu and _is_served(wide) else _attention_reference
    result: Tensor = run(*(tensor.to(wide) for tensor in rows), grid_size, blocked).to(value.dtype)
    return result


def _is_served(dtype: torch.dtype) -> bool:
    """Whether the native kernel takes this type on this processor; the reference is faster than a plain loop would be."""
    return dtype == torch.float32 and has_kernel("relative_attention") and torch.ops.pc3d.native_isa() >= AVX2


def _check(query: AttentionSide, key: AttentionSide, value: Tensor, tables: PositionTables, blocked: Tensor | None) -> None:
    heads, channels, columns = tables.query.shape
    queries, keys, table = len(query.content), len(value), (heads, channels, columns)
    expected = {"query.content": (query.content, (queries, heads * channels)),
                "query.position": (query.position, (queries, heads * channels)), "query.xyz": (query.xyz, (queries, 3)),
                "key.content": (key.content, (keys, heads * channels)),
                "key.position": (key.position, (keys, heads * channels)), "key.xyz": (key.xyz, (keys, 3)),
                "value": (value, (keys, heads * channels)), "tables.key": (tables.key, table),
                "tables.value": (tables.value, table)}
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape or not tensor.is_floating_point() or tensor.device != value.device:
            raise DataError(explain(f"{name} does not fit", where="relative_attention",
                                    got=f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}",
                                    expected=f"floating {shape} on {value.device}"))
    if columns % 6 or not columns:
        raise DataError(explain("tables hold 2 G columns per axis", where="relative_attention", got=columns))
    if blocked is not None and (blocked.shape != (queries, keys) or blocked.dtype != torch.bool):
        raise DataError(explain("blocked does not fit", where="relative_attention",
                                got=f"{blocked.dtype} {tuple(blocked.shape)}", expected=f"bool {(queries, keys)}"))


@torch.no_grad()
def relative_bins(query_xyz: Tensor, key_xyz: Tensor, grid_length: int, grid_size: float) -> Tensor:
    """Table columns n_a + 2 G a of each pair (3, K, M) int16."""
    steps = ((query_xyz.T[:, :, None] - key_xyz.T[:, None, :]) / grid_size).floor_()
    first = torch.arange(3, device=steps.device).mul(2 * grid_length).add(grid_length)[:, None, None]
    return steps.clamp_(-grid_length, grid_length - 1).add_(first).to(torch.int16)


def _attention_reference(query: Tensor, query_position: Tensor, query_xyz: Tensor, key: Tensor, key_position: Tensor,
                         value: Tensor, key_xyz: Tensor, query_table: Tensor, key_table: Tensor, value_table: Tensor,
                         grid_size: float, blocked: Tensor | None) -> Tensor:
    heads, channels, columns = query_table.shape
    qc, qs, kc, kp, v = (x.unflatten(1, (heads, channels)) for x in (query, query_position, key, key_position, value))
    bins = relative_bins(query_xyz, key_xyz, columns // 6, grid_size)
    scale = 1 / math.sqrt(2 * channels)
    logits = torch.einsum("khe,mhe->hkm", torch.cat([qc, qs], dim=2) * scale, torch.cat([kc, kp], dim=2))
    # In place: (H, K, M) tensors are the largest of the decoder, and a fresh one costs more than its arithmetic.
    logits += relative_read(torch.einsum("khe,het->hkt", qc * scale, query_table), bins, by_key=False)
    logits += relative_read(torch.einsum("mhe,het->hmt", kc, key_table), bins, by_key=True)
    if blocked is not None:
        logits.masked_fill_(blocked, -torch.inf)
    weights = logits.softmax(dim=2)
    weight_of_column = relative_add(weights, bins, columns, by_key=False)
    relative = torch.einsum("hkt,het->khe", weight_of_column, value_table)
    return (torch.einsum("hkm,mhe->khe", weights, v) + relative).flatten(1)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.grid_size, blocked = inputs
    ctx.save_for_backward(*tensors, blocked)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of the reference, which is run again."""
    *tensors, blocked = ctx.saved_tensors
    needed = ctx.needs_input_grad[:len(tensors)]
    again: Callable[..., Tensor] = _attention_reference
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_(needs) for tensor, needs in zip(tensors, needed)]
        read = again(*leaves, ctx.grid_size, blocked)
        found = iter(torch.autograd.grad(read, [leaf for leaf in leaves if leaf.requires_grad], grad, allow_unused=True))
    return *(next(found) if needs else None for needs in needed), None, None


_attention = define(
    "relative_attention(Tensor query, Tensor query_position, Tensor query_xyz, Tensor key, Tensor key_position, Tensor value, "
    "Tensor key_xyz, Tensor query_table, Tensor key_table, Tensor value_table, float grid_size, Tensor? blocked) -> Tensor",
    reference=_attention_reference,
    fake=lambda query, *rest: torch.empty_like(query),
    backward=_backward,
    setup_context=_keep,
)
