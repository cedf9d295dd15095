"""CLSR: contrastive-learning-guided superpoint refinement (Relation3D, Lu and Deng 2025).

The decoder has two paths. On one, queries read superpoints; on this one, superpoints read queries, so that superpoints
claimed by one query grow alike (the contrastive loss, pc3d.losses.contrastive, asks for it):

    (1)  F = LN(F + CrossAttention(superpoints <- queries))
    (2)  F = LN(F + FFN(F))

It runs after every r-th layer (r = 3); one block serves all of them, as in the released weights.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from pc3d.config import DecoderConfig
from pc3d.nn.attention import ContextualCrossAttention, Tokens
from pc3d.nn.heads import feed_forward


class CLSR(nn.Module):
    """Refine superpoint features with what the queries know; d channels."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        d = config.d_model
        self.cross_attention = ContextualCrossAttention(d, config.num_heads, config.grid_length, config.grid_size)
        self.cross_norm = nn.LayerNorm(d)
        self.ffn = feed_forward(d, config.d_ffn, config.dropout)
        self.ffn_norm = nn.LayerNorm(d)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, superpoints: Tokens, queries: Tokens) -> Tokens:
        """Return the superpoints with refined content (S, d); no superpoint is kept from any query of its scan."""
        content = superpoints.content
        content = self.cross_norm(content + self.dropout(self.cross_attention(superpoints, queries)))   # (1)
        content = self.ffn_norm(content + self.dropout(self.ffn(content)))                               # (2)
        return replace(superpoints, content=content)
