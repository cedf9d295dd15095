"""``pc3d bench asam``: ASAM pooling of scene S, forward and training step, beside its steps in torch and in torch_scatter.

Conventions differ where rows tie in a maximum: torch shares the gradient out among them, torch_scatter gives it to one that
it does not name, pc3d to the first point. Here no rows of a superpoint tie but those of one voxel, which share a gradient.

A training step is compared with the peer's own in float64, which the op meets to 1e-5. The peer in float32 does not: where
a ReLU's input is almost 0, an error in its last digit opens or closes the gate, which moves a gradient by up to a percent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from pc3d.bench.compare import Row, close, compare
from pc3d.bench.scene import make_scene
from pc3d.nn.asam import ASAM
from pc3d.transforms import voxelize

CHANNELS, SUPERPOINTS, VOXEL = 32, 1500, 0.02
FLOP = 4 * CHANNELS**2 * 2  # of the hidden layers of both branches, per point
Reduce = Callable[[Tensor], Tensor]


class Case:
    """Scene S as the network has it after the backbone: features of voxels, and each point's voxel and superpoint."""

    def __init__(self) -> None:
        generator, xyz = torch.Generator().manual_seed(0), make_scene().xyz
        seeds = xyz[np.random.default_rng(0).choice(len(xyz), SUPERPOINTS, replace=False)]
        coords, point_to_voxel = voxelize((xyz - xyz.min(axis=0)) / np.float32(VOXEL))
        self.features = torch.randn(len(coords), CHANNELS, generator=generator)  # no two rows tie
        self.point_to_voxel = torch.as_tensor(point_to_voxel)
        self.index = torch.from_numpy(cKDTree(seeds).query(xyz)[1]).long()
        self.upstream = torch.randn(SUPERPOINTS, 2 * CHANNELS, generator=generator)
        torch.manual_seed(0)
        self.asam = ASAM(CHANNELS)

    def own(self, features: Tensor) -> Tensor:
        """Both weighted sums (S, 2C) by the op."""
        return self.asam.in_one(features, self.index, SUPERPOINTS, self.point_to_voxel)

    def peer(self, features: Tensor, total: Reduce, highest: Reduce) -> Tensor:
        """The same step by step, given the sum and the maximum over superpoints."""
        points = features[self.point_to_voxel]
        count = total(points.new_ones(len(points), 1))
        branches = ((total(points) / count, self.asam.mean_weight), (highest(points), self.asam.max_weight))
        pooled = []
        for center, weigh in branches:
            logit: Tensor = weigh(center[self.index] - points)
            share = (logit - highest(logit.detach())[self.index]).exp()
            pooled.append(total(share / total(share)[self.index] * points))
        return torch.cat(pooled, 1)

    def step(self, pool: Callable[[Tensor], Tensor], dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
        """A training step: the pooled sums, and the gradients of features and of all parameters."""
        self.asam.to(dtype)
        leaf = self.features.detach().to(dtype).requires_grad_()
        pooled = pool(leaf)
        parameters = [p for branch in (self.asam.mean_weight, self.asam.max_weight) for p in branch.parameters()]
        return pooled.detach(), *torch.autograd.grad(pooled, [leaf, *parameters], self.upstream.to(dtype))


def run(rounds: int) -> Iterator[Row]:
    """Forward and training step beside each peer that is here, every one on the same threads."""
    case = Case()
    for name, total, highest in _peers(case.index):
        peer = partial(case.peer, total=total, highest=highest)
        case.asam.eval()
        with torch.no_grad():
            yield compare("ASAM forward", partial(case.own, case.features), partial(peer, case.features), rounds,
                          peer_name=name, same=close(1e-5), flop=FLOP * len(case.index))
        case.asam.train()
        saved = {"saved_mb": _saved_bytes(case, case.own) / 1e6, "peer_saved_mb": _saved_bytes(case, peer) / 1e6}
        exact = case.step(peer, torch.float64)
        yield compare("ASAM training step", partial(case.step, case.own), partial(case.step, peer), rounds, peer_name=name,
                      same=partial(_both_close, exact), flop=3 * FLOP * len(case.index), figures=saved)


def _both_close(exact: tuple[Tensor, ...], own: tuple[Tensor, ...], peer: tuple[Tensor, ...]) -> None:
    """Sums, gradient of features, gradients of parameters; these together, for those of biases before a norm are but noise."""
    for side, bound in ((own, 1e-5), (peer, 2e-2)):
        for got, expected in zip(side[:2], exact[:2]):
            close(bound)(got, expected)
        close(bound)(*(torch.cat([part.flatten().double() for part in parts[2:]]) for parts in (side, exact)))


def _peers(index: Tensor) -> Iterator[tuple[str, Reduce, Reduce]]:
    """Name, sum and maximum over superpoints of torch and, where it is installed, of torch_scatter."""
    def total(x: Tensor) -> Tensor:
        return x.new_zeros(SUPERPOINTS, x.shape[1]).index_add(0, index, x)

    def highest(x: Tensor) -> Tensor:
        wide = index[:, None].expand_as(x)
        return x.new_zeros(SUPERPOINTS, x.shape[1]).scatter_reduce(0, wide, x, "amax", include_self=False)

    yield "torch", total, highest
    try:
        import torch_scatter
    except ImportError:
        return
    yield ("torch_scatter", lambda x: torch_scatter.scatter_sum(x, index, 0, dim_size=SUPERPOINTS),
           lambda x: torch_scatter.scatter_max(x, index, 0, dim_size=SUPERPOINTS)[0])


def _saved_bytes(case: Case, pool: Callable[[Tensor], Tensor]) -> int:
    """Bytes that the forward pass of training keeps, without what lives in any case: features, ids and parameters."""
    given = [case.features, case.point_to_voxel, case.index, *case.asam.parameters(), *case.asam.buffers()]
    alive = {t.untyped_storage().data_ptr() for t in given}
    storages: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    features = case.features.detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        pool(features)
    return sum(size for place, size in storages.items() if place not in alive)
