"""The relation loss of Relation3D: superpoints of one instance should look alike, others should not.

    S = cos(F, F),    L_cont = BCE((1 + S) / 2, R)       R_ij = 1 where superpoints i and j lie in the same instance

averaged over all pairs of one scan, then over scans; scans never meet. Summed over the states of the superpoint features:
before the decoder and after each refinement.

The pairs of a scan, each once, are taken in tiles of rows, which the backward pass computes anew: nothing of size S x S is
ever made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pc3d.config import LossConfig
from pc3d.structures import Targets

TILE = 256  # superpoints whose pairs with all others are in memory at once
MOST_UNLIKELY = math.exp(-100)  # bounds what a pair can cost, as torch's binary_cross_entropy does


def contrastive_loss(memory: Sequence[list[Tensor]], targets: Sequence[Targets], config: LossConfig) -> Tensor:
    """Sum of the loss over states ``memory[m][b]`` (S_b, d).

    ``contrastive_states="all"`` counts a state again for each layer that left it as it was: 1, 3, 3 times in six layers.
    """
    total = memory[0][0].new_zeros(())
    for state, count in _distinct(memory):
        weight = count if config.contrastive_states == "all" else 1
        total = total + weight * state_loss(state, targets, config.unlabelled)
    return total


def state_loss(state: list[Tensor], targets: Sequence[Targets], unlabelled: str) -> Tensor:
    """Mean over scans of the loss of one state."""
    scans = [scan_loss(features, target.superpoint_instances, unlabelled) for features, target in zip(state, targets)]
    return torch.stack(scans).mean()


def scan_loss(features: Tensor, instances: Tensor, unlabelled: str) -> Tensor:
    """Loss of features (S, d) whose superpoints lie in instances (S,), negative where in none.

    ``one_instance``: equal ids are one instance, walls and floor included, as in the paper's code.
    ``ignore``: two superpoints without an instance say nothing about each other; with any other they are unrelated.
    """
    unit = F.normalize(features, dim=1, eps=1e-8)
    alone = instances < 0 if unlabelled == "ignore" else torch.zeros_like(instances, dtype=torch.bool)
    loss = sum(checkpoint(_tile_loss, unit[start:], instances[start:], alone[start:], use_reentrant=False)
               for start in range(0, len(unit), TILE))
    result: Tensor = loss / (len(alone)**2 - alone.sum()**2).clamp(min=1)
    return result


def _tile_loss(unit: Tensor, instances: Tensor, alone: Tensor) -> Tensor:
    """Sum of the cross-entropies of the first TILE superpoints with each other and, twice, with all later ones.

    Of two that are alone there is none.
    """
    same = instances[:TILE, None] == instances[None]
    right = (1 + torch.where(same, 1.0, -1.0).to(unit) * (unit[:TILE] @ unit.T)) / 2     # what the pair gives to the truth
    loss = -right.clamp(min=MOST_UNLIKELY).log()
    loss = loss.masked_fill(alone[:TILE, None] & alone[None], 0)
    return 2 * loss.sum() - loss[:, :TILE].sum()


def _distinct(memory: Sequence[list[Tensor]]) -> list[tuple[list[Tensor], int]]:
    """States that differ from the one before, each with how often it stands there in a row."""
    runs: list[tuple[list[Tensor], int]] = []
    for state in memory:
        if runs and state is runs[-1][0]:
            runs[-1] = (state, runs[-1][1] + 1)
        else:
            runs.append((state, 1))
    return runs
