"""ASAM: adaptive superpoint aggregation (Relation3D, Lu and Deng 2025).

A superpoint should not be the plain mean of its points: some of them are noise, some tell what it is. ASAM weighs
each point by how far it is from the mean and from the maximum of its superpoint. For point n of superpoint s(n):

    (1)  mean_s = mean of f_n,  max_s = max of f_n               over the points n of s, per channel
    (2)  w_n = MLP_mean(mean_s(n) - f_n),  v_n = MLP_max(max_s(n) - f_n)                    in R
    (3)  a_s = sum of softmax_s(w)_n f_n,  b_s = sum of softmax_s(v)_n f_n
    (4)  F_s = MLP([a_s, b_s])

``in_one`` does (1) to (3) in one op. ``in_steps`` does them one by one; training on several processes takes it, where the
batch norms inside the MLPs need the points of all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, cat, nn

from pc3d.nn.norm import BatchNorm
from pc3d.ops import WeightNets, asam_pool, group_segments, segment_expand, segment_pool
from pc3d.ops.segment import Reduce


class ASAM(nn.Module):
    """Superpoint features (S, C) from point features (N, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean_weight = _weight_mlp(channels)
        self.max_weight = _weight_mlp(channels)
        self.merge = nn.Sequential(nn.Linear(2 * channels, channels), nn.ReLU(), nn.Linear(channels, channels))

    def forward(self, points: Tensor, point_to_superpoint: Tensor, num_superpoints: int,
                point_to_voxel: Tensor | None = None) -> Tensor:
        """Aggregate points (N, C) into superpoints (S, C); ids (N,) are dense in [0, S).

        With point_to_voxel (N,) the features are those of voxels (V, C), and a point has its voxel's.
        """
        if self.training and any(norm.synchronised for norm in self._norms()):
            features = points if point_to_voxel is None else segment_expand(points, point_to_voxel)
            pooled = self.in_steps(features, point_to_superpoint, num_superpoints)
        else:
            pooled = self.in_one(points, point_to_superpoint, num_superpoints, point_to_voxel)
        merged: Tensor = self.merge(pooled)                                             # (4)
        return merged

    def in_steps(self, points: Tensor, point_to_superpoint: Tensor, num_superpoints: int) -> Tensor:
        """The two weighted sums (S, 2C) of points (N, C), equation by equation."""
        segments = (point_to_superpoint, num_superpoints)
        groups = group_segments(*segments)

        def pool(reduce: Reduce, weight: Tensor | None = None) -> Tensor:
            return segment_pool(points, *segments, reduce, groups, weight)

        def to_points(y: Tensor) -> Tensor:
            return segment_expand(y, point_to_superpoint, groups)

        mean, peak = pool("mean"), pool("max")                                          # (1)
        mean_weight = self.mean_weight(to_points(mean) - points)                        # (2)
        max_weight = self.max_weight(to_points(peak) - points)
        return cat([pool("softmax", mean_weight), pool("softmax", max_weight)], dim=1)  # (3)

    def in_one(self, points: Tensor, point_to_superpoint: Tensor, num_superpoints: int,
                point_to_voxel: Tensor | None = None) -> Tensor:
        """The same two sums (S, 2C) in one op; in training the running statistics of the batch norms move as theirs do."""
        count, norms = len(point_to_superpoint), self._norms()
        learns = self.training and count > 1
        pooled, stats = asam_pool(points, point_to_superpoint, num_superpoints, self._nets(), point_to_row=point_to_voxel,
                                  training=learns, eps=norms[0].eps)
        if learns:
            for norm, (mean, var) in zip(norms, stats.flatten(0, 1)):
                norm.learn(mean, var, count)
        return pooled

    def _norms(self) -> list[BatchNorm]:
        """The batch norms of both branches, layer by layer."""
        return [layer for branch in (self.mean_weight, self.max_weight) for layer in branch if isinstance(layer, BatchNorm)]

    def _nets(self) -> WeightNets:
        """The weights of both branches as the op takes them."""
        layers = [layer for branch in (self.mean_weight, self.max_weight) for layer in branch if isinstance(layer, nn.Linear)]
        hidden, last, norms = [*layers[0:2], *layers[3:5]], [layers[2], layers[5]], self._norms()
        shifts = [torch.stack([layer.bias, norm.weight, norm.bias]) for layer, norm in zip(hidden, norms)]
        stats = [torch.stack([norm.running_mean, norm.running_var]) for norm in norms]
        weights, norm_rows, stat_rows = (torch.stack(rows).unflatten(0, (2, 2)) for rows in (
            [layer.weight for layer in hidden], shifts, stats))
        return WeightNets(weights, norm_rows, torch.stack([cat([layer.weight[0], layer.bias]) for layer in last]), stat_rows)


def _weight_mlp(channels: int) -> nn.Sequential:
    """Two hidden layers and one number per point; batch norm runs over the points of the whole batch."""
    return nn.Sequential(
        nn.Linear(channels, channels), BatchNorm(channels), nn.ReLU(),
        nn.Linear(channels, channels), BatchNorm(channels), nn.ReLU(),
        nn.Linear(channels, 1))
