"""Packing samples into a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pc3d.config import BackboneConfig
from pc3d.data.sample import Sample
from pc3d.structures import PointBatch
from pc3d.transforms import spatial_shape


def collate(samples: Sequence[Sample], backbone: BackboneConfig) -> PointBatch:
    """Concatenate B samples; voxel and superpoint ids become unique over the batch."""
    voxel_starts = _starts([len(s.voxel_coords) for s in samples])
    superpoint_starts = _starts([int(s.superpoints.max(initial=-1)) + 1 for s in samples])
    coords = np.concatenate([np.column_stack([np.full(len(s.voxel_coords), b, np.int32), s.voxel_coords])
                             for b, s in enumerate(samples)])
    max_coord = coords[:, 1:].max(axis=0, initial=0)
    voxels = [s.point_to_voxel + start for s, start in zip(samples, voxel_starts)]
    superpoints = [s.superpoints + start for s, start in zip(samples, superpoint_starts)]
    targets = tuple(s.targets for s in samples if s.targets is not None)
    return PointBatch(
        xyz=torch.from_numpy(np.concatenate([s.xyz for s in samples])),
        features=torch.from_numpy(np.concatenate([s.features for s in samples])),
        offsets=torch.from_numpy(_starts([len(s.xyz) for s in samples])),
        voxel_coords=torch.from_numpy(coords),
        point_to_voxel=torch.from_numpy(np.concatenate(voxels)),
        spatial_shape=spatial_shape(max_coord.tolist(), len(backbone.channels), backbone.spatial_shape),
        point_to_superpoint=torch.from_numpy(np.concatenate(superpoints)),
        superpoint_offsets=torch.from_numpy(superpoint_starts),
        targets=targets if len(targets) == len(samples) else None,
    )


def _starts(counts: Sequence[int]) -> np.ndarray:
    """CSR offsets (len + 1,) of consecutive groups."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
