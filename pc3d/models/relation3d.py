"""Relation3D: from a batch of voxelised scans to the queries of each decoder layer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from pc3d.config import ModelConfig
from pc3d.errors import ConfigError, explain
from pc3d.nn.asam import ASAM
from pc3d.nn.decoder import Decoder
from pc3d.nn.unet import UNet
from pc3d.ops import segment_expand, segment_pool
from pc3d.structures import PointBatch, Relation3DOutput


class Relation3D(nn.Module):
    """Sparse U-Net on voxels, ASAM on superpoints, query decoder with CLSR and RSA (Lu and Deng, CVPR 2025)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.backbone.channels[0]
        self.backbone = UNet(config.in_channels, config.backbone)
        self.asam = ASAM(channels) if config.decoder.asam else None
        self.decoder = Decoder(config.decoder, channels, len(config.classes))
        width = config.decoder.d_model
        self.semantic = nn.Linear(width, len(config.classes) + 1) if config.loss.semantic > 0 else None

    def forward(self, batch: PointBatch) -> Relation3DOutput:
        """Return the outputs of all decoder layers in training, of the last one in evaluation."""
        voxels, segments = self.voxel_features(batch), (batch.point_to_superpoint, batch.num_superpoints)
        if self.asam is None:
            superpoints = segment_pool(segment_expand(voxels, batch.point_to_voxel), *segments, "mean")
        else:
            superpoints = self.asam(voxels, *segments, batch.point_to_voxel)
        centroids = segment_pool(batch.xyz, *segments, "mean")
        output: Relation3DOutput = self.decoder(superpoints, centroids, batch.superpoint_offsets.diff().tolist())
        return output if self.semantic is None else replace(output, semantic=self.semantic(torch.cat(output.memory[0])))

    def voxel_features(self, batch: PointBatch) -> Tensor:
        """Feature (V, C) of each voxel, which sees the mean of the points inside; its points share it."""
        voxels = segment_pool(batch.features, batch.point_to_voxel, len(batch.voxel_coords), "mean")
        features: Tensor = self.backbone(voxels, batch.voxel_coords, batch.spatial_shape, batch.batch_size)
        return features


def build(config: ModelConfig) -> Relation3D:
    """Build a network with fresh weights; the config must name its classes and fit its heads to its width."""
    if not config.classes:
        raise ConfigError(explain("the network needs class names", where="model.classes", got="none",
                                  do="Name them in the config, or train on a data set, which brings them."))
    width, heads = config.decoder.d_model, config.decoder.num_heads
    if width % heads or width % 2:
        raise ConfigError(explain("d_model must be even and a multiple of num_heads", where="model.decoder",
                                  got=f"d_model {width}, num_heads {heads}"))
    return Relation3D(config)
