"""What the network eats: several scans packed into one set of rows, already voxelised."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Targets:
    """Ground truth of one scan on its own S superpoints.

    A superpoint belongs to an instance when more than half of its points do (Relation3D, section 3.5).
    """

    labels: Tensor               # (I,) int64 class index
    masks: Tensor                # (I, S) bool
    centers: Tensor              # (I, 3) metres, mean of the instance's points
    superpoint_instances: Tensor  # (S,) int64 instance of a superpoint for the relation loss, -1 for none

    def to(self, device: torch.device | str) -> Targets:
        """Return a copy on another device."""
        return Targets(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True, eq=False)
class PointBatch:
    """B scans with N points, V voxels and S superpoints in all; rows of one scan are consecutive.

    Superpoint and voxel ids are unique over the batch: scan b owns superpoints
    ``superpoint_offsets[b]`` to ``superpoint_offsets[b + 1]``.
    """

    xyz: Tensor                  # (N, 3) float metres
    features: Tensor             # (N, C) float
    offsets: Tensor              # (B+1,) int64, first point of each scan
    voxel_coords: Tensor         # (V, 4) int32: scan, x, y, z
    point_to_voxel: Tensor       # (N,) int64
    spatial_shape: tuple[int, int, int]
    point_to_superpoint: Tensor  # (N,) int64
    superpoint_offsets: Tensor   # (B+1,) int64
    targets: tuple[Targets, ...] | None = None

    @property
    def batch_size(self) -> int:
        """Number of scans B."""
        return len(self.offsets) - 1

    @property
    def num_superpoints(self) -> int:
        """Number of superpoints S of all scans together."""
        return int(self.superpoint_offsets[-1])

    def to(self, device: torch.device | str) -> PointBatch:
        """Return a copy on another device."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        targets = None if self.targets is None else tuple(t.to(device) for t in self.targets)
        return replace(self, **moved, targets=targets)
