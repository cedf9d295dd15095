"""The sparse U-Net of SSTNet, SPFormer and Relation3D (Relation3D, section 3.2): voxels in, a feature per voxel out.

Submodules are named as in the released checkpoints: ``input_conv``, ``unet``, ``output_layer``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pc3d.config import BackboneConfig
from pc3d.nn.norm import BatchNorm
from pc3d.nn.sparse import Engine, SparseTensor, engine
from pc3d.nn.unet_one_pass import OnePass


class UNet(nn.Module):
    """Input convolution, recursive U-Net, normalisation: (V, Cin) features of V voxels become (V, channels[0])."""

    def __init__(self, in_channels: int, config: BackboneConfig) -> None:
        super().__init__()
        self.engine = engine(config.engine)
        width = config.channels[0]
        self.input_conv = nn.Sequential(self.engine.SubMConv3d(in_channels, width, 3))
        self.unet = UBlock(self.engine, config.channels, config.block_reps)
        self.output_layer = nn.Sequential(*_norm_relu(width))
        self.precision = torch.bfloat16 if config.precision == "bfloat16" else None
        self.one_pass = OnePass()

    def forward(self, features: Tensor, voxel_coords: Tensor, spatial_shape: Sequence[int], batch_size: int) -> Tensor:
        """Args: features (V, Cin); voxel_coords (V, 4) int32 scan, x, y, z, unique, in any order; voxels per axis; scans B.

        Row i of the result belongs to row i of the input, though voxels are in key order in between.
        """
        given = SparseTensor(features.to(self.precision or features.dtype), voxel_coords, spatial_shape, batch_size)
        x = self.engine.tensor(given.in_key_order())
        if self.one_pass.serves(self, x):
            y = self.one_pass.run(self, x.replace_feature(x.features.to(_autocast_type(x.features))))
        else:
            if torch.is_grad_enabled():  # a step may follow
                self.one_pass.forget()
            y = self.output_layer(self.unet(_apply(self.input_conv, x)).features)
        return given.sites.from_sorted(y).to(features.dtype)

    def train(self, mode: bool = True) -> UNet:
        """Switch to training or evaluation, and forget what was kept for it: see OnePass."""
        self.one_pass.forget()
        return super().train(mode)


def _autocast_type(x: Tensor) -> torch.dtype:
    """bfloat16 where an autocast asks for it, else the type of x."""
    kind = x.device.type
    asked = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16
    return torch.bfloat16 if asked else x.dtype


class UBlock(nn.Module):
    """One level and all below it: blocks, then down, the next level, up, concatenate with the skip, blocks."""

    def __init__(self, layers: Engine, channels: Sequence[int], block_reps: int, level: int = 1) -> None:
        super().__init__()
        width, *deeper = channels
        self.blocks = _blocks(layers, width, width, block_reps)
        self.u: UBlock | None = None
        if not deeper:
            return
        key = f"spconv{level}"
        self.conv = nn.Sequential(*_norm_relu(width), layers.SparseConv3d(width, deeper[0], 2, stride=2, key=key))
        self.u = UBlock(layers, deeper, block_reps, level + 1)
        self.deconv = nn.Sequential(*_norm_relu(deeper[0]), layers.SparseInverseConv3d(deeper[0], width, 2, key=key))
        self.blocks_tail = _blocks(layers, 2 * width, width, block_reps)

    def forward(self, x: Any) -> Any:
        skip = self.blocks(x)
        if self.u is None:
            return skip
        up = _apply(self.deconv, self.u(_apply(self.conv, skip)))
        return self.blocks_tail(skip.replace_feature(torch.cat([skip.features, up.features], 1)))


class ResidualBlock(nn.Module):
    """Pre-activation residual block: ``i(x) + conv(relu(norm(conv(relu(norm(x))))))``; i is 1x1 where widths differ, else x."""

    def __init__(self, layers: Engine, in_channels: int, out_channels: int) -> None:
        super().__init__()
        same = in_channels == out_channels
        self.i_branch = nn.Sequential(nn.Identity() if same else layers.SubMConv3d(in_channels, out_channels, 1))
        self.conv_branch = nn.Sequential(
            *_norm_relu(in_channels), layers.SubMConv3d(in_channels, out_channels, 3),
            *_norm_relu(out_channels), layers.SubMConv3d(out_channels, out_channels, 3),
        )

    def forward(self, x: Any) -> Any:
        y = _apply(self.conv_branch, x)
        return y.replace_feature(y.features + self.i_branch(x).features)


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    # In place: neither the norm nor the convolution before it needs the norm's output for its gradient, and one fresh
    # buffer less per layer saves 12 % of the time of a forward pass.
    return BatchNorm(channels), nn.ReLU(inplace=True)


def _blocks(layers: Engine, in_channels: int, out_channels: int, block_reps: int) -> nn.Sequential:
    widths = [in_channels] + [out_channels] * block_reps
    return nn.Sequential(OrderedDict((f"block{i}", ResidualBlock(layers, a, b)) for i, (a, b) in enumerate(pairwise(widths))))


def _apply(modules: nn.Sequential, x: Any) -> Any:
    """Run convolutions on the sparse tensor and everything else on its features."""
    for module in modules:
        if isinstance(module, BatchNorm | nn.ReLU):
            x = x.replace_feature(module(x.features))
        else:
            x = module(x)
    return x
