"""``pc3d bench decoder``: the query decoder at 400 queries and 1,500 superpoints, and its two special attentions.

The peer is the same network with the same weights, written as it is usually written: relative positions are int64 indices
(K, M, 3) whose table rows are gathered for every pair and summed over axes, the encoding of box relations is made for all
K x K pairs, every layer runs its heads, and attention is a product, a softmax and a product.

The floor counts the multiply-adds that the result needs, sines for free, at the rate of torch.mm on the decoder's largest
product.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from pc3d.bench.compare import Row, close, compare, measure
from pc3d.config import DecoderConfig
from pc3d.engine.precision import multiplies_bfloat16
from pc3d.errors import DataError, explain
from pc3d.nn.attention import ContextualCrossAttention, Tokens
from pc3d.nn.decoder import Decoder, DecoderLayer, SceneFrame
from pc3d.nn.rsa import RelationBias, RelationSelfAttention, query_boxes

SUPERPOINTS, IN_CHANNELS, CLASSES = 1500, 32, 18
CONFIG = DecoderConfig()
ROOM = (4.0, 3.2, 2.4)  # metres, as scene S
SAME = 2e-3  # mean difference of two float32 decoders: bins and masks are cut at edges, where the last bit decides


class EagerDecoder(nn.Module):
    """The forward pass of ``decoder`` for one scan, in plain torch; returns class logits (K, C+1) and mask logits (K, S)."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, superpoints: Tensor, xyz: Tensor) -> tuple[Tensor, Tensor]:
        net, sizes = self.decoder, [len(xyz)]
        frame = SceneFrame.around(xyz, sizes)
        memory = Tokens(net.input_proj(superpoints), net.memory_encoding(frame.normalise(xyz, sizes)), xyz, sizes)
        anchor = net.reference_points.sigmoid()
        content = superpoints.new_zeros(len(anchor), net.config.d_model)
        bias, blocked = None, None
        for index, layer in enumerate(net.layers):
            sine = net.query_encoding(anchor)
            point, place = net.query_point(sine), frame.to_metres(anchor[None])[0]
            assert isinstance(layer, DecoderLayer)
            content = _layer(layer, Tokens(content, sine, place, [len(anchor)]), point, memory, bias, blocked)
            if net.clsr is not None and index % net.config.refine_every == 0:
                read = eager_attention(net.clsr.cross_attention, memory, Tokens(content, point, place, [len(anchor)]), None)
                refined = net.clsr.cross_norm(memory.content + read)
                memory = replace(memory, content=net.clsr.ffn_norm(refined + net.clsr.ffn(refined)))
            decoded = net.norm(content)
            masks = decoded @ memory.content.T
            classes, _, _ = net.heads(decoded)
            bias = None if net.relation is None else eager_bias(net.relation, query_boxes(masks, xyz, net.config.min_box_size))
            blocked = masks.sigmoid() < net.config.attn_mask_threshold
            blocked = blocked & ~blocked.all(dim=1, keepdim=True)
            anchor = anchor + net.shift(decoded) / frame.extent
        return classes, masks


def _layer(layer: DecoderLayer, queries: Tokens, point: Tensor, memory: Tokens, bias: Tensor | None,
           blocked: Tensor | None) -> Tensor:
    content = queries.content
    content = layer.self_norm(content + _self_attention(layer.self_attention, content, point, bias))
    code = None if layer.point_code is None else layer.point_code(point)
    asking = replace(queries, content=content)
    content = layer.cross_norm(content + eager_attention(layer.cross_attention, asking, memory, blocked, code))
    result: Tensor = layer.ffn_norm(content + layer.ffn(content))
    return result


def _self_attention(part: RelationSelfAttention, content: Tensor, point: Tensor, bias: Tensor | None) -> Tensor:
    q = part.query_content(content) + part.query_position(point)
    k = part.key_content(content) + part.key_position(point)
    q, k, v = (x.unflatten(1, (part.num_heads, -1)).transpose(0, 1) for x in (q, k, part.value(content)))
    logits = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    weights = (logits if bias is None else logits + bias).softmax(dim=2)
    result: Tensor = part.out((weights @ v).transpose(0, 1).flatten(1))
    return result


def eager_bias(part: RelationBias, boxes: Tensor) -> Tensor:
    """The bias (H, K, K) of RSA through the whole encoding (K, K, 64)."""
    center, size = boxes[:, :3], boxes[:, 3:] + 1e-5
    position = torch.log((center[:, None] - center[None]).abs() / size[:, None] + 1)
    relation = torch.cat([position, torch.log(size[:, None] / size[None])], dim=2)
    phase = 2 * math.pi * relation @ part.encoding.gauss_B
    return part.project(torch.cat([phase.sin(), phase.cos()], dim=2)).relu().permute(2, 0, 1)


def eager_attention(part: ContextualCrossAttention, queries: Tokens, keys: Tokens, blocked: Tensor | None,
                    code: Tensor | None = None) -> Tensor:
    """Cross-attention with three gathers per pair and table."""
    heads, channels, columns = part.query_table.shape
    qc, qs = part.query_content(queries.content), part.query_position(queries.position)
    kc, kp = part.key_content(keys.content), part.key_position(keys.position)
    if code is not None:
        qc, kc = qc + code, kc + kp
    qc, qs, kc, kp, v = (x.unflatten(1, (heads, channels)).transpose(0, 1) for x in (qc, qs, kc, kp, part.value(keys.content)))
    length, scale = columns // 6, 1 / math.sqrt(2 * channels)
    steps = torch.floor((queries.xyz[:, None] - keys.xyz[None]) / part.grid_size).clamp(-length, length - 1).long()
    index = steps + length + 2 * length * torch.arange(3)                                        # (K, M, 3) int64
    flat = index.flatten(1).expand(heads, -1, -1)
    logits = torch.cat([qc, qs], 2) * scale @ torch.cat([kc, kp], 2).transpose(1, 2)
    logits = logits + (qc * scale @ part.query_table).gather(2, flat).unflatten(2, index.shape[1:]).sum(dim=3)
    by_key = index.transpose(0, 1).flatten(1).expand(heads, -1, -1)
    logits = logits + (kc @ part.key_table).gather(2, by_key).unflatten(2, (len(qc[0]), 3)).sum(dim=3).transpose(1, 2)
    if blocked is not None:
        logits = logits.masked_fill(blocked, -torch.inf)
    weights = logits.softmax(dim=2)
    on_columns = weights.new_zeros(*weights.shape[:2], columns)
    on_columns.scatter_add_(2, flat, weights[..., None].expand(-1, -1, -1, 3).flatten(2))
    read = weights @ v + on_columns @ part.value_table.transpose(1, 2)
    result: Tensor = part.out(read.transpose(0, 1).flatten(1))
    return result


def floor_flop(config: DecoderConfig, superpoints: int) -> float:
    """Multiply-adds, times two, of one pass of the decoder over one scan at inference."""
    k, s, d, columns = config.num_queries, superpoints, config.d_model, 6 * config.grid_length

    def cross(asking: int, answering: int) -> float:
        return 2 * d * (d * (3 * asking + 3 * answering) + 3 * asking * answering + columns * (2 * asking + answering))

    layers, relations = config.num_layers, config.num_layers - 1  # the first self-attention is one constant row
    pairs = 2 * k * k * (d + d) + 2 * k * k * 32 * (3 + 2 * config.num_heads)
    queries = layers * (cross(k, s) + 4 * k * d * config.d_ffn + 4 * k * d * d + 2 * k * s * d)
    itself = relations * (12 * k * d * d + pairs + 4 * k * d * d)
    refined = math.ceil(layers / config.refine_every) * (cross(s, k) + 4 * s * d * config.d_ffn)
    return queries + itself + refined + 2 * s * IN_CHANNELS * d + 6 * k * d * d


def mm_rate(rounds: int) -> float:
    """FLOP/s of torch.mm on the decoder's largest product, of superpoints by the feed-forward width."""
    a, b = torch.randn(SUPERPOINTS, CONFIG.d_model), torch.randn(CONFIG.d_model, CONFIG.d_ffn)
    best = math.inf
    for _ in range(10 * rounds):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return 2 * a.numel() * b.shape[1] / best


def inputs() -> tuple[Decoder, Tensor, Tensor]:
    """An untrained decoder, features (S, C) and centroids (S, 3) of superpoints all over a room."""
    torch.manual_seed(0)
    decoder = Decoder(CONFIG, IN_CHANNELS, CLASSES).eval()
    return decoder, torch.randn(SUPERPOINTS, IN_CHANNELS), torch.rand(SUPERPOINTS, 3) * torch.tensor(ROOM)


def about(own: Tensor, peer: Tensor) -> None:
    """Raise DataError where two decoders differ by more than rounding that moved a few pairs over an edge."""
    difference = float((own - peer).abs().mean() / peer.abs().mean())
    if not difference <= SAME:
        raise DataError(explain("the decoders computed different things", got=f"a mean difference of {difference:.2g}",
                                expected=f"at most {SAME:.2g}"))


def check_peer(decoder: Decoder, superpoints: Tensor, xyz: Tensor) -> None:
    """Hold the peer to the decoder in float64, where no edge is near enough to be crossed by rounding."""
    exact = deepcopy(decoder).double()
    layer = exact(superpoints.double(), xyz.double(), [len(xyz)]).layers[-1]
    for own, peer in zip((layer.class_logits[0], layer.masks[0]), EagerDecoder(exact)(superpoints.double(), xyz.double())):
        close(1e-10)(own, peer)


@torch.inference_mode()
def run(rounds: int) -> Iterator[Row]:
    """The whole decoder, then one layer's RSA bias and one cross-attention."""
    decoder, superpoints, xyz = inputs()
    check_peer(decoder, superpoints, xyz)
    eager = EagerDecoder(decoder)
    flop, rate = floor_flop(CONFIG, SUPERPOINTS), mm_rate(rounds)

    def own() -> Tensor:
        layer = decoder(superpoints, xyz, [SUPERPOINTS]).layers[-1]
        return torch.cat([layer.class_logits[0], layer.masks[0]], dim=1)

    row = compare(f"decoder, {CONFIG.num_queries} queries, {SUPERPOINTS:,} superpoints", own,
                  lambda: torch.cat(eager(superpoints, xyz), dim=1), rounds, peer_name="eager", same=about, flop=flop)
    yield replace(row, figures={"gflop": flop / 1e9, "torch_mm_gflops": rate / 1e9, "floor_seconds": flop / rate,
                                "times_floor": row.seconds * rate / flop})

    def in_bf16() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return own()

    if multiplies_bfloat16():
        yield measure("the same in bf16", in_bf16, rounds)
    yield from _parts(decoder, superpoints, xyz, rounds)


def _parts(decoder: Decoder, superpoints: Tensor, xyz: Tensor, rounds: int) -> Iterator[Row]:
    part = decoder.relation
    assert part is not None
    queries = CONFIG.num_queries
    boxes = torch.cat([torch.rand(queries, 3) * torch.tensor(ROOM), 0.05 + torch.rand(queries, 3)], dim=1)
    yield compare("RSA bias of one layer", lambda: part(boxes), lambda: eager_bias(part, boxes), 3 * rounds, peer_name="eager",
                  same=close(1e-3), note=f"{queries} boxes, {CONFIG.num_heads} heads")
    layer, width = decoder.layers[1], CONFIG.d_model
    assert isinstance(layer, DecoderLayer)
    attention = layer.cross_attention
    places = torch.rand(queries, 3) * torch.tensor(ROOM)
    asking = Tokens(torch.randn(queries, width), torch.randn(queries, width), places, [queries])
    answering = Tokens(decoder.input_proj(superpoints), torch.randn(len(xyz), width), xyz, [len(xyz)])
    yield compare("cross-attention of one layer", lambda: attention(asking, answering),
                  lambda: eager_attention(attention, asking, answering, None), rounds, peer_name="eager", same=close(1e-4))
