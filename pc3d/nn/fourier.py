"""Random Fourier features of coordinates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FourierEncoding(nn.Module):
    """Encode x in R^in as [sin(2 pi x B), cos(2 pi x B)] with a Gaussian B (in, out/2) that is drawn once and never trained.

    B belongs to the weights: a checkpoint that loses it loses its positions (Tancik et al. 2020, eq. 5).
    """

    gauss_B: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.register_buffer("gauss_B", torch.randn(in_channels, out_channels // 2))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., in) to (..., out); no gradient reaches x."""
        # Not a matrix product, which autocast would take in half precision: phases of many turns would be noise.
        turns = torch.stack([x[..., i, None] * row for i, row in enumerate(self.gauss_B)]).sum(dim=0)
        phase = turns.mul_(2 * math.pi)
        return torch.cat([phase.sin(), phase.cos()], dim=-1)
