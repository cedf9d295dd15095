"""The Relation3D decoder: K queries and the superpoints of each scan teach each other, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pc3d.config import DecoderConfig
from pc3d.nn.attention import ContextualCrossAttention, Tokens
from pc3d.nn.clsr import CLSR
from pc3d.nn.fourier import FourierEncoding
from pc3d.nn.heads import QueryHeads, feed_forward, mlp, zero_last
from pc3d.nn.linear import Linear, linear
from pc3d.nn.rsa import RelationBias, RelationSelfAttention, query_boxes
from pc3d.structures import LayerOutput, Relation3DOutput

MIN_EXTENT = 0.01  # metres; a flat scan or a single superpoint has none, and positions are divided by it


@dataclass(frozen=True)
class SceneFrame:
    """Box of each scan's superpoint centroids; positions in [0, 1] are relative to it."""

    low: Tensor      # (B, 3) metres
    extent: Tensor   # (B, 3) metres

    @classmethod
    def around(cls, xyz: Tensor, sizes: list[int]) -> SceneFrame:
        """The frames of packed centroids (S, 3) of scans with ``sizes`` superpoints."""
        low = torch.stack([scan.amin(dim=0) for scan in xyz.split(sizes)])
        high = torch.stack([scan.amax(dim=0) for scan in xyz.split(sizes)])
        return cls(low, (high - low).clamp(min=MIN_EXTENT))

    def normalise(self, xyz: Tensor, sizes: list[int]) -> Tensor:
        """Packed metres (S, 3) to [0, 1]."""
        scan = torch.repeat_interleave(torch.tensor(sizes, device=xyz.device), output_size=len(xyz))
        return (xyz - self.low[scan]) / self.extent[scan]

    def to_metres(self, points: Tensor) -> Tensor:
        """Positions (B, K, 3) relative to the frames, in metres."""
        return points * self.extent[:, None] + self.low[:, None]


class DecoderLayer(nn.Module):
    """Self-attention among queries, cross-attention to superpoints, feed-forward; each with residual, then layer norm."""

    def __init__(self, config: DecoderConfig, *, first: bool) -> None:
        super().__init__()
        d, heads = config.d_model, config.num_heads
        self.self_attention = RelationSelfAttention(d, heads)
        self.self_norm = nn.LayerNorm(d)
        self.point_code = Linear(d, d) if first else None
        self.cross_attention = ContextualCrossAttention(d, heads, config.grid_length, config.grid_size)
        self.cross_norm = nn.LayerNorm(d)
        self.ffn = feed_forward(d, config.d_ffn, config.dropout)
        self.ffn_norm = nn.LayerNorm(d)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, queries: Tokens, point: Tensor, memory: Tokens, bias: Tensor | None,
                blocked: list[Tensor] | None) -> Tensor:
        """Update query content (B*K, d); ``point`` (B*K, d) codes the query positions, ``queries.position`` is their sine."""
        content = queries.content
        scans = (len(queries.sizes), queries.sizes[0])
        if self.point_code is None or torch.is_grad_enabled():
            seen = self.self_attention(content.unflatten(0, scans), point.unflatten(0, scans), bias).flatten(0, 1)
        else:  # no query knows anything yet; training takes the long way, for a gradient that is zero but there
            seen = self.self_attention.among_equals(content[:1])
        content = self.self_norm(content + self.dropout(seen))
        code = None if self.point_code is None else self.point_code(point)
        asking = Tokens(content, queries.position, queries.xyz, queries.sizes)
        content = self.cross_norm(content + self.dropout(self.cross_attention(asking, memory, blocked, code)))
        result: Tensor = self.ffn_norm(content + self.dropout(self.ffn(content)))
        return result


class Decoder(nn.Module):
    """From superpoint features to class, score, centre and mask of each query."""

    def __init__(self, config: DecoderConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        d = config.d_model
        self.config = config
        self.input_proj = nn.Sequential(Linear(in_channels, d), nn.LayerNorm(d), nn.ReLU())
        self.reference_points = nn.Parameter(torch.randn(config.num_queries, 3))
        self.memory_encoding = FourierEncoding(3, d)
        self.query_encoding = FourierEncoding(3, d)
        self.query_point = mlp(d, d, d)
        self.layers = nn.ModuleList(DecoderLayer(config, first=index == 0) for index in range(config.num_layers))
        self.clsr = CLSR(config) if config.clsr else None
        self.relation = RelationBias(config.num_heads) if config.rsa else None
        self.norm = nn.LayerNorm(d)
        self.shift = mlp(d, d, d, 3)
        self._reset_parameters()
        self.heads = QueryHeads(config, num_classes)

    def _reset_parameters(self) -> None:
        for part in (self.query_point, self.layers, self.clsr, self.relation, self.shift):
            for parameter in () if part is None else part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        zero_last(self.shift)

    def forward(self, superpoints: Tensor, xyz: Tensor, sizes: list[int]) -> Relation3DOutput:
        """Decode packed superpoint features (S, C) at centroids (S, 3) in metres; scan b has ``sizes[b]`` of them."""
        frame = SceneFrame.around(xyz, sizes)
        memory = Tokens(self.input_proj(superpoints), self.memory_encoding(frame.normalise(xyz, sizes)), xyz, sizes)
        reference = self.reference_points.sigmoid().expand(len(sizes), -1, -1)
        anchor = reference
        content = superpoints.new_zeros(reference.shape[0] * reference.shape[1], self.config.d_model)
        bias: Tensor | None = None
        blocked: list[Tensor] | None = None
        states, outputs = [list(memory.content.split(sizes))], []
        for index, layer in enumerate(self.layers):
            queries, point = self._place(content, anchor, frame)
            content = layer(queries, point, memory, bias, blocked)
            memory = self._refine(index, memory, content, point, queries)
            states.append(list(memory.content.split(sizes)) if self._refines(index) else states[-1])
            decoded = self.norm(content).unflatten(0, reference.shape[:2])
            masks = [linear(query, superpoint) for query, superpoint in zip(decoded, states[-1])]
            last = index == len(self.layers) - 1
            if self.training or last:
                outputs.append(self._read(decoded, masks, frame.to_metres(reference)))
            if not last:
                bias, blocked = self._relate(masks, memory), [self._block(mask) for mask in masks]
                reference = anchor + self.shift(decoded) / frame.extent[:, None]
                anchor = reference.detach()  # a layer learns its own step only; the heads see the gradient
        return Relation3DOutput(outputs, states)

    def _place(self, content: Tensor, anchor: Tensor, frame: SceneFrame) -> tuple[Tokens, Tensor]:
        """Query tokens at anchors (B, K, 3), and the learned code (B*K, d) of where they are."""
        sine = self.query_encoding(anchor).flatten(0, 1)
        xyz = frame.to_metres(anchor).detach().flatten(0, 1)
        return Tokens(content, sine, xyz, [anchor.shape[1]] * len(anchor)), self.query_point(sine)

    def _refines(self, index: int) -> bool:
        return self.clsr is not None and index % self.config.refine_every == 0

    def _refine(self, index: int, memory: Tokens, content: Tensor, point: Tensor, queries: Tokens) -> Tokens:
        if self.clsr is None or not self._refines(index):
            return memory
        refined: Tokens = self.clsr(memory, Tokens(content, point, queries.xyz, queries.sizes))
        return refined

    def _read(self, decoded: Tensor, masks: list[Tensor], points: Tensor) -> LayerOutput:
        class_logits, scores, offsets = self.heads(decoded)
        return LayerOutput(class_logits, scores, points + offsets, masks)

    def _relate(self, masks: list[Tensor], memory: Tokens) -> Tensor | None:
        """Attention bias (B, H, K, K) for the next layer from the boxes of this layer's masks."""
        if self.relation is None:
            return None
        scans = zip(masks, memory.xyz.split(memory.sizes))
        biases = [self.relation(query_boxes(mask, xyz, self.config.min_box_size)) for mask, xyz in scans]
        return biases[0][None] if len(biases) == 1 else torch.stack(biases)

    @torch.no_grad()
    def _block(self, mask_logits: Tensor) -> Tensor:
        """Superpoints (K, S) the next layer's queries may not look at; a query with an empty mask may look everywhere."""
        limit = mask_logits.new_tensor(self.config.attn_mask_threshold).logit()
        empty = mask_logits.amax(dim=1, keepdim=True) < limit
        return mask_logits < torch.where(empty, -torch.inf, limit)
