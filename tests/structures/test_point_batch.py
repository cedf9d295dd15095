from __future__ import annotations

import torch

from pc3d.structures import PointBatch, Targets


def test_a_moved_batch_is_whole_and_new() -> None:
    targets = Targets(torch.zeros(1).long(), torch.ones(1, 2).bool(), torch.zeros(1, 3), torch.zeros(2).long())
    batch = PointBatch(
        xyz=torch.zeros(3, 3), features=torch.zeros(3, 9), offsets=torch.tensor([0, 1, 3]),
        voxel_coords=torch.zeros(2, 4).int(), point_to_voxel=torch.tensor([0, 1, 1]), spatial_shape=(2, 2, 2),
        point_to_superpoint=torch.tensor([0, 1, 1]), superpoint_offsets=torch.tensor([0, 1, 2]), targets=(targets, targets))
    moved = batch.to("meta")
    assert moved.xyz.device.type == moved.superpoint_offsets.device.type == "meta"
    assert moved.targets is not None
    assert moved.targets[1].masks.device.type == "meta"
    assert batch.xyz.device.type == "cpu"
    assert (batch.batch_size, batch.num_superpoints, moved.batch_size) == (2, 2, 2)
    assert moved.spatial_shape == (2, 2, 2)
