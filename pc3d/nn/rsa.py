"""RSA: relation-aware self-attention (Relation3D, Lu and Deng 2025).

Queries know where the masks they predicted one layer ago lie. Each mask has an axis-aligned box with centre x_i and size l_i;
the relation of two boxes biases the attention between their queries:

    (1)  pos_ij = log(|x_i - x_j| / l_i + 1)                  position, per axis
    (2)  geo_ij = log(l_i / l_j)                              shape, per axis
    (3)  R_ij  = ReLU(Linear(Fourier([pos_ij, geo_ij])))      one number per head, never negative
    (4)  Attention = softmax(Q K^T / sqrt(e) + R) V

The paper calls the encoding sine-cosine and the projection linear; released weights need random Fourier features and a ReLU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pc3d.nn.fourier import FourierEncoding
from pc3d.nn.linear import Linear
from pc3d.ops import mask_boxes, relation_bias


class RelationBias(nn.Module):
    """Attention bias R (H, K, K) from the boxes of K queries; equations (1) to (3)."""

    def __init__(self, num_heads: int, channels: int = 64) -> None:
        super().__init__()
        self.encoding = FourierEncoding(6, channels)
        self.project = Linear(channels, num_heads)

    def forward(self, boxes: Tensor) -> Tensor:
        """Map boxes (K, 6), centre and size in metres, to (H, K, K); no gradient reaches the boxes."""
        return relation_bias(boxes, self.encoding.gauss_B, self.project.weight, self.project.bias)


class RelationSelfAttention(nn.Module):
    """Self-attention of queries with an additive relation bias; equation (4)."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_content, self.query_position = Linear(d_model, d_model), Linear(d_model, d_model)
        self.key_content, self.key_position = Linear(d_model, d_model), Linear(d_model, d_model)
        self.value = Linear(d_model, d_model)
        self.out = Linear(d_model, d_model)

    def forward(self, queries: Tensor, position: Tensor, bias: Tensor | None) -> Tensor:
        """Let queries (B, K, d) at positions (B, K, d) see each other; bias is (B, H, K, K), None for no relation yet."""
        q = self.query_content(queries) + self.query_position(position)
        k = self.key_content(queries) + self.key_position(position)
        q, k, v = (x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, self.value(queries)))
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)                  # (4)
        result: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return result

    def among_equals(self, query: Tensor) -> Tensor:
        """What each of many equal queries reads: whatever the weights, a mean of one value."""
        result: Tensor = self.out(self.value(query))
        return result


@torch.no_grad()
def query_boxes(mask_logits: Tensor, xyz: Tensor, min_size: float) -> Tensor:
    """Boxes (K, 6), centre and size, of the superpoint centroids xyz (S, 3) in each mask (K, S), probability over 0.5.

    The likeliest superpoint always belongs to its mask, so no box is empty. Sizes are at least ``min_size`` metres: the
    log-ratios of a box without extent are random numbers after the Fourier encoding.
    """
    low, high = mask_boxes(mask_logits, xyz).split(3, dim=1)
    return torch.cat([(low + high) / 2, (high - low).clamp(min=min_size)], dim=1)
