"""ASAM: adaptive superpoint aggregation (Relation3D, Lu and Deng 2025).

A superpoint should not be the plain mean of its points: some of them are noise, some tell what it is. ASAM weighs
each point by how far it is from the mean and from the maximum of its superpoint. For point n of superpoint s(n):

    (1)  mean_s = mean of f_n,  max_s = max of f_n               over the points n of s, per channel
    (2)  w_n = MLP_mean(mean_s(n) - f_n),  v_n = MLP_max(max_s(n) - f_n)                    in R
    (3)  a_s = sum of softmax_s(w)_n f_n,  b_s = sum of softmax_s(v)_n f_n
    (4)  F_s = MLP([a_s, b_s])
"""

from __future__ import annotations

from torch import Tensor, cat, nn

from pc3d.nn.norm import BatchNorm
from pc3d.ops import group_segments, segment_expand, segment_pool, segment_softmax
from pc3d.ops.segment import Reduce


class ASAM(nn.Module):
    """Superpoint features (S, C) from point features (N, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean_weight = _weight_mlp(channels)
        self.max_weight = _weight_mlp(channels)
        self.merge = nn.Sequential(nn.Linear(2 * channels, channels), nn.ReLU(), nn.Linear(channels, channels))

    def forward(self, points: Tensor, point_to_superpoint: Tensor, num_superpoints: int) -> Tensor:
        """Aggregate points (N, C) into superpoints (S, C); ids (N,) are dense in [0, S)."""
        segments = (point_to_superpoint, num_superpoints)
        groups = group_segments(*segments)

        def pool(x: Tensor, reduce: Reduce) -> Tensor:
            return segment_pool(x, *segments, reduce, groups)

        def to_points(y: Tensor) -> Tensor:
            return segment_expand(y, point_to_superpoint, groups)

        mean, peak = pool(points, "mean"), pool(points, "max")                          # (1)
        mean_weight = self.mean_weight(to_points(mean) - points)                        # (2)
        max_weight = self.max_weight(to_points(peak) - points)
        around_mean = pool(segment_softmax(mean_weight, *segments, groups) * points, "sum")  # (3)
        around_max = pool(segment_softmax(max_weight, *segments, groups) * points, "sum")
        merged: Tensor = self.merge(cat([around_mean, around_max], dim=1))              # (4)
        return merged


def _weight_mlp(channels: int) -> nn.Sequential:
    """Two hidden layers and one number per point; batch norm runs over the points of the whole batch."""
    return nn.Sequential(
        nn.Linear(channels, channels), BatchNorm(channels), nn.ReLU(),
        nn.Linear(channels, channels), BatchNorm(channels), nn.ReLU(),
        nn.Linear(channels, 1))
