"""Small stacks of linear layers, and the heads that read a query."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from pc3d.config import DecoderConfig
from pc3d.nn.linear import Linear


class QueryHeads(nn.Module):
    """Class, mask quality and centre of each query, shared by all decoder layers."""

    def __init__(self, config: DecoderConfig, num_classes: int) -> None:
        super().__init__()
        self.classes = mlp(config.d_model, config.d_model, num_classes + 1)
        self.score = mlp(config.d_model, config.d_model, 1)
        self.center = zero_last(mlp(config.d_model, config.d_model, 3))

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map queries (B, K, d) to class logits (B, K, C+1), scores (B, K) and centre offsets (B, K, 3) in metres."""
        return self.classes(queries), self.score(queries).squeeze(-1), self.center(queries)


def mlp(*channels: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def feed_forward(channels: int, hidden: int, dropout: float) -> nn.Sequential:
    """Transformer feed-forward block, without its residual."""
    return nn.Sequential(Linear(channels, hidden), nn.GELU(), nn.Dropout(dropout), Linear(hidden, channels))


def zero_last(layers: nn.Sequential) -> nn.Sequential:
    """Start the last linear layer at zero, so that it first predicts no offset."""
    last = layers[-1]
    assert isinstance(last, Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return layers
