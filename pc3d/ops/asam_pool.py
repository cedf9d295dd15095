"""ASAM pooling (Relation3D, equations 1 to 3) in one op, from rows to two weighted sums per superpoint.

    mean_s, max_s = mean and maximum of x_n                               over the points n of superpoint s, per channel
    l_n = w3 . relu(BN2(W2 relu(BN1(W1 (c_s(n) - x_n) + b1)) + b2)) + b3  for c = mean and c = max, each with its own weights
    y_s = sum over n of softmax_s(l)_n x_n                                for both

Nothing is stored per point but two logits and one bit per channel and branch. Points of one row (a voxel) in one superpoint
are one entry with a count. Batch norms are folded into their layers, h = relu(A1 d + t1) and z = A2 h + t2, and in training
their statistics come from moments: mean W f + b and variance W K W^T, where f and K are mean and covariance of what enters
the layer. The backward pass recomputes h; with p = softmax weight, dy = gradient of y_s, g = open gates of z, N points:

    dl = p (dy . x - dy . y),  dA2 = sum of dl w3 g h^T,  dt2 = sum of dl w3 g
    dh = A2^T (dl w3 g) + (2 G2 h + f2) / N           G, f: gradients of E[v v^T] and E[v] of what enters the layer
    dA1 = sum of (dh at h > 0) d^T,  dd = A1^T (dh at h > 0) + (2 G1 d + f1) / N,  dx = p dy - dd

and the centres take the sum of dd over the superpoint: the mean shares it out, the maximum gives it to its first entry.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_ids
from pc3d.ops._library import define
from pc3d.ops.segment import _group, _max_reference, _widen

TILE_ROWS = 48  # known to csrc/asam_pool.h too
PAD = 16        # likewise
BRANCHES, LAYERS = range(2), range(2)


class WeightNets(NamedTuple):
    """Both branches (mean, max), both hidden layers: what turns a distance from the centre into the logit of a point."""

    weights: Tensor  # (2, 2, C, C) of branch and layer
    norms: Tensor    # (2, 2, 3, C) bias of the layer, weight and bias of its batch norm
    last: Tensor     # (2, C + 1) weight of the last layer, then its bias, which softmax takes away
    stats: Tensor    # (2, 2, 2, C) running mean and variance of the batch norms, for evaluation


def asam_pool(x: Tensor, index: Tensor, num_segments: int, nets: WeightNets, *, point_to_row: Tensor | None = None,
              training: bool = False, eps: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Pool into (S, 2C), the sums about mean and maximum side by side; and the statistics (2, 2, 2, C) used, like nets.stats.

    x is (V, C) floating, index (N,) int64 in [0, S) with S = num_segments the superpoint of each point, point_to_row (N,)
    int64 in [0, V) its row of x, by default its own. In training the statistics are mean and biased variance over the points.
    Half types are computed in float32. An empty superpoint gives 0; NaN gives NaN. Differentiable once. Raises DataError.
    """
    _check_arguments(x, index, nets, point_to_row)
    rows = torch.arange(len(x), device=x.device) if point_to_row is None else point_to_row
    check_ids("asam_pool", "superpoint id", index, num_segments)
    check_ids("asam_pool", "point_to_row", rows, len(x))
    entries = _entries(rows, index, len(x), num_segments)
    pooled, stats, *_ = _pool(_widen(x), *entries, *(part.double() for part in nets), len(index), training, eps)
    return pooled.to(x.dtype), stats


def _check_arguments(x: Tensor, index: Tensor, nets: WeightNets, point_to_row: Tensor | None) -> None:
    if x.dim() != 2 or not x.is_floating_point() or x.shape[1] == 0:
        raise DataError(explain("x must be rows of floating numbers", where="asam_pool", got=f"{x.dtype} {tuple(x.shape)}",
                                expected="floating (V, C), C > 0"))
    ids = {"index": index} if point_to_row is None else {"index": index, "point_to_row": point_to_row}
    count = len(x) if point_to_row is None else index.shape[0]
    for name, value in ids.items():
        if value.dtype != torch.int64 or value.shape != (count,) or value.device != x.device:
            raise DataError(explain(f"{name} does not fit", where="asam_pool", expected=f"torch.int64 ({count},) on {x.device}",
                                    got=f"{value.dtype} {tuple(value.shape)} on {value.device}"))
    c = x.shape[1]
    for name, value, shape in zip(nets._fields, nets, ((2, 2, c, c), (2, 2, 3, c), (2, c + 1), (2, 2, 2, c))):
        if value.shape != shape or not value.is_floating_point() or value.device != x.device:
            raise DataError(explain(f"{name} does not fit x", where="asam_pool", expected=f"floating {shape} on {x.device}",
                                    got=f"{value.dtype} {tuple(value.shape)} on {value.device}"))


def _entries_reference(point_to_row: Tensor, index: Tensor, num_rows: int, num_segments: int) -> tuple[Tensor, ...]:
    """Entries: rows in a superpoint, by superpoint and in the order of their first points; room for N, of row V if unused."""
    count = len(index)
    key, order = torch.sort(index * max(num_rows, 1) + point_to_row, stable=True)
    new = torch.ones_like(key, dtype=torch.bool)
    new[1:] = key[1:] != key[:-1]
    first = order[new]                                       # the first point of each entry
    points = torch.bincount(new.cumsum(0) - 1, minlength=len(first))
    by_first = torch.sort(first).indices
    by_segment = by_first[torch.sort(index[first[by_first]], stable=True).indices]
    first, points, spare = first[by_segment], points[by_segment], count - len(first)
    segment, sizes = index[first], torch.bincount(index, minlength=num_segments)
    offsets = pad(torch.bincount(segment, minlength=num_segments).cumsum(0), (1, 0))
    tiles = pad(((offsets.diff() + TILE_ROWS - 1) // TILE_ROWS).cumsum(0), (1, 0))
    row, room = pad(point_to_row[first], (0, spare), value=num_rows), (0, spare)
    return row, pad(points, room), pad(segment, room), offsets, tiles, sizes


def _entries_fake(point_to_row: Tensor, index: Tensor, num_rows: int, num_segments: int) -> tuple[Tensor, ...]:
    per_point, starts = [len(index)] * 3, [num_segments + 1] * 2
    return tuple(index.new_empty(size) for size in (*per_point, *starts, num_segments))


class _Branch:
    """One branch on all E entries in plain torch: distances d, hidden h, second layer z, and how the norms were folded."""

    def __init__(self, d: Tensor, count: Tensor, nets: WeightNets, b: int, moments: Tensor | None, num_points: int,
                 eps: float) -> None:
        self.moments, self.folds, self.stats = [], [], []
        value, self.inputs = d, []
        for layer in LAYERS:
            found = _moments(value, count, num_points) if moments is None else moments[b, layer]
            weight, (bias, gamma, beta) = nets.weights[b, layer], nets.norms[b, layer]
            mean, var = nets.stats[b, layer] if num_points == 0 else _statistics(weight, bias, found)
            scale = gamma / (var + eps).sqrt()
            a, t = scale[:, None] * weight, scale * (bias - mean) + beta
            self.inputs.append(value)
            self.moments.append(found)
            self.folds.append((a, t, scale, mean, var))
            self.stats.append(torch.stack([mean, var]))
            z = value @ a.T.to(d.dtype) + t.to(d.dtype)
            value = z.relu()
        self.z, self.logits = z, value @ nets.last[b, :-1].to(d.dtype)


def _moments(value: Tensor, count: Tensor, num_points: int) -> Tensor:
    """(C + 1, C): mean over points of v v^T and, last, of v."""
    wide, weight = value.double(), count[:, None].double() / max(num_points, 1)
    return torch.cat([(weight * wide).T @ wide, (weight * wide).sum(0, keepdim=True)])


def _statistics(weight: Tensor, bias: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
    first = moments[-1]
    covariance = moments[:-1] - torch.outer(first, first)
    return weight @ first + bias, ((weight @ covariance) * weight).sum(1).clamp(min=0)


def _pool_reference(x: Tensor, row: Tensor, count: Tensor, segment: Tensor, offsets: Tensor, tiles: Tensor, sizes: Tensor,
                    weights: Tensor, norms: Tensor, last: Tensor, stats: Tensor, num_points: int, training: bool,
                    eps: float) -> tuple[Tensor, ...]:
    used, channels, num_segments = int(offsets[-1]), x.shape[1], len(sizes)
    rows, count, segment = x[row[:used]], count[:used], segment[:used]
    points = sizes.clamp(min=1)[:, None].to(x.dtype)
    mean = x.new_zeros(num_segments, channels).index_add(0, segment, rows * count[:, None].to(x.dtype)) / points
    top, peak = _max_reference(rows, segment, segment, offsets, tiles)
    pooled, logits, levels, gates, found, used_stats = [], [], [], [], [], []
    for b, center in zip(BRANCHES, (mean, top)):
        branch = _Branch(center[segment] - rows, count, WeightNets(weights, norms, last, stats), b, None,
                         num_points if training else 0, eps)
        highest = _max_reference(branch.logits[:, None], segment, segment, offsets, tiles)[0][:, 0]
        share = count.to(x.dtype) * (branch.logits - highest[segment]).exp()
        total = x.new_zeros(num_segments).index_add(0, segment, share)
        total = torch.where(sizes > 0, total, 1)
        pooled.append(x.new_zeros(num_segments, channels).index_add(0, segment, share[:, None] * rows) / total[:, None])
        levels.append(highest + total.log())
        logits.append(pad(branch.logits, (0, len(row) - used)))
        gates.append(pad(_pack_bits(branch.z > 0), (0, 0, 0, len(row) - used)))
        moments = torch.stack(branch.moments)
        found.append(moments if training else torch.zeros_like(moments))
        used_stats.append(torch.stack(branch.stats))
    return (torch.cat(pooled, 1), torch.stack(used_stats), torch.stack([mean, top]), peak,
            *(torch.stack(part) for part in (found, logits, levels, gates)))


def _stride(channels: int) -> int:
    return (channels + PAD - 1) // PAD * PAD


def _pack_bits(bits: Tensor) -> Tensor:
    stride = _stride(bits.shape[1])
    wide = pad(bits, (0, stride - bits.shape[1])).reshape(len(bits), stride // 8, 8)
    return (wide * (1 << torch.arange(8, device=bits.device))).sum(2).to(torch.uint8)


def _unpack_bits(packed: Tensor, channels: int) -> Tensor:
    return (packed[:, :, None] >> torch.arange(8, device=packed.device) & 1).flatten(1)[:, :channels].bool()


def _pool_fake(x: Tensor, row: Tensor, count: Tensor, segment: Tensor, offsets: Tensor, tiles: Tensor, sizes: Tensor,
               weights: Tensor, norms: Tensor, last: Tensor, stats: Tensor, num_points: int, training: bool,
               eps: float) -> tuple[Tensor, ...]:
    entries, segments, channels = len(row), len(sizes), x.shape[1]
    return (x.new_empty(segments, 2 * channels), weights.new_empty(2, 2, 2, channels), x.new_empty(2, segments, channels),
            row.new_empty(segments, channels), weights.new_empty(2, 2, channels + 1, channels), x.new_empty(2, entries),
            x.new_empty(2, segments), x.new_empty(2, entries, _stride(channels) // 8, dtype=torch.uint8))


def _pool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.num_points, ctx.training, ctx.eps = inputs
    pooled, _, *rest = output
    ctx.save_for_backward(*tensors, pooled, *rest)
    ctx.mark_non_differentiable(*output[1:])


def _pool_backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    x, row = saved[0], saved[1]
    by_row, by_row_offsets, _ = _group(row, x.shape[0] + 1)  # entries that are not used are of row V
    to_x, *to_nets = _pool_grad(grad, *saved, by_row, by_row_offsets, ctx.num_points, ctx.training, ctx.eps)
    return to_x, *[None] * 6, *to_nets, *[None] * 4


def _grad_reference(grad: Tensor, x: Tensor, row: Tensor, count: Tensor, segment: Tensor, offsets: Tensor, tiles: Tensor,
                    sizes: Tensor, weights: Tensor, norms: Tensor, last: Tensor, stats: Tensor, pooled: Tensor, centers: Tensor,
                    peak: Tensor, moments: Tensor, logits: Tensor, level: Tensor, gates: Tensor, by_row: Tensor,
                    by_row_offsets: Tensor, num_points: int, training: bool, eps: float) -> tuple[Tensor, ...]:
    used, channels = int(offsets[-1]), x.shape[1]
    row, count, segment = row[:used], count[:used], segment[:used]
    rows, times, nets = x[row], count[:, None].to(x.dtype), WeightNets(weights, norms, last, stats)
    to_rows, to_nets = torch.zeros_like(rows), [torch.zeros_like(part) for part in nets[:3]]
    points = sizes.clamp(min=1)[:, None].to(x.dtype)
    for b in BRANCHES:
        own = slice(b * channels, (b + 1) * channels)
        branch = _Branch(centers[b, segment] - rows, count, nets, b, moments, num_points if training else 0, eps)
        p = times[:, 0] * (logits[b, :used] - level[b, segment]).exp()
        slope = p * ((grad[segment, own] * rows).sum(1) - (grad[segment, own] * pooled[segment, own]).sum(1))
        gate = _unpack_bits(gates[b, :used], channels)
        to_nets[2][b, :-1] = (slope.double()[:, None] * branch.z.relu()).sum(0)
        upstream = slope[:, None] * gate * last[b, :-1].to(x.dtype)
        for layer in reversed(LAYERS):
            value, (a, *_) = branch.inputs[layer], branch.folds[layer]
            to_weight, to_norm, to_square, to_first = _unfold(upstream, value, nets, branch, b, layer, training, eps)
            to_nets[0][b, layer], to_nets[1][b, layer] = to_weight, to_norm
            through = (2 * value.double() @ to_square + to_first) / max(num_points, 1)
            upstream = upstream @ a.to(x.dtype) + times * through.to(x.dtype)
            if layer:
                upstream = upstream * (value > 0)
        to_center = torch.zeros_like(centers[b]).index_add(0, segment, upstream)
        to_rows += p[:, None] * grad[segment, own] - upstream
        if b == 0:
            to_rows += times * (to_center / points)[segment]
        else:
            spare = pad(to_rows, (0, 0, 0, 1))                # the last row takes what belongs to no entry
            to_rows = spare.scatter_add(0, torch.where(peak < 0, used, peak), to_center)[:-1]
    return torch.zeros_like(x).index_add(0, row, to_rows), *to_nets


def _unfold(upstream: Tensor, value: Tensor, nets: WeightNets, branch: _Branch, b: int, layer: int, training: bool,
            eps: float) -> tuple[Tensor, ...]:
    """Gradients of a layer's weight (C, C) and norm (3, C), and of the moments of its input: (C, C) and (C,)."""
    weight, (bias, _, _) = nets.weights[b, layer], nets.norms[b, layer]
    _, _, scale, mean, var = branch.folds[layer]
    to_a, to_t = upstream.double().T @ value.double(), upstream.double().sum(0)
    to_scale = (to_a * weight).sum(1) + to_t * (bias - mean)
    to_gamma = to_scale / (var + eps).sqrt()
    if not training:
        zero = torch.zeros_like(weight)
        return scale[:, None] * to_a, torch.stack([scale * to_t, to_gamma, to_t]), zero, zero[0]
    first = branch.moments[layer][-1]
    covariance = branch.moments[layer][:-1] - torch.outer(first, first)
    to_var = -0.5 * to_scale * scale / (var + eps)
    to_weight = scale[:, None] * to_a - torch.outer(scale * to_t, first) + 2 * to_var[:, None] * (weight @ covariance)
    to_square = weight.T @ (to_var[:, None] * weight)
    to_first = -weight.T @ (scale * to_t) - 2 * to_square @ first
    return to_weight, torch.stack([torch.zeros_like(to_t), to_gamma, to_t]), to_square, to_first


def _grad_fake(grad: Tensor, x: Tensor, row: Tensor, count: Tensor, segment: Tensor, offsets: Tensor, tiles: Tensor,
               sizes: Tensor, weights: Tensor, norms: Tensor, last: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(part, memory_format=torch.contiguous_format) for part in (x, weights, norms, last))


def _grad_backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    raise DataError(explain("it can be differentiated once", where="asam_pool", got="a second derivative",
                            do="Take the steps: ASAM.in_steps"))


_INPUTS = ("Tensor x, Tensor row, Tensor count, Tensor segment, Tensor offsets, Tensor tiles, Tensor sizes, Tensor weights, "
           "Tensor norms, Tensor last, Tensor stats")
_SAVED = "Tensor pooled, Tensor centers, Tensor peak, Tensor moments, Tensor logits, Tensor level, Tensor gates"
_MODE = "SymInt num_points, bool training, float eps"
_entries = define(
    "asam_entries(Tensor point_to_row, Tensor index, SymInt num_rows, SymInt num_segments) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)", reference=_entries_reference, fake=_entries_fake)
_pool = define(f"asam_pool({_INPUTS}, {_MODE}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
               reference=_pool_reference, fake=_pool_fake, backward=_pool_backward, setup_context=_pool_setup)
_pool_grad = define(f"asam_pool_grad(Tensor grad, {_INPUTS}, {_SAVED}, Tensor by_row, Tensor by_row_offsets, {_MODE}) -> "
                    "(Tensor, Tensor, Tensor, Tensor)", reference=_grad_reference, fake=_grad_fake, backward=_grad_backward,
                    setup_context=lambda ctx, inputs, output: None)
