"""One query for each instance, by the Hungarian method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pc3d.config import LossConfig
from pc3d.losses.masks import bce_cost, dice_cost
from pc3d.structures import LayerOutput, Targets


@dataclass(frozen=True)
class Match:
    """Query ``queries[p]`` answers for instance ``instances[p]``, for the P pairs of one scan."""

    queries: Tensor    # (P,) int64
    instances: Tensor  # (P,) int64


@torch.no_grad()
def match(layer: LayerOutput, targets: tuple[Targets, ...], config: LossConfig) -> list[Match]:
    """Match queries and instances of each scan at the lowest total cost; queries left over stand for no object."""
    return [_assign(_cost(layer, scan, target, config)) for scan, target in enumerate(targets)]


def _cost(layer: LayerOutput, scan: int, target: Targets, config: LossConfig) -> Tensor:
    """Cost (K, I) of each query for each instance of one scan."""
    logits, masks = layer.masks[scan], target.masks.to(layer.masks[scan].dtype)
    likelihood = layer.class_logits[scan].softmax(dim=1)[:, target.labels]
    distance = torch.cdist(layer.centers[scan], target.centers.to(layer.centers.dtype), p=1)
    return (-config.cost_cls * likelihood + config.cost_bce * bce_cost(logits, masks)
            + config.cost_dice * dice_cost(logits, masks) + config.cost_center * distance)


def _assign(cost: Tensor) -> Match:
    rows, columns = linear_sum_assignment(np.nan_to_num(cost.cpu().numpy()))
    return Match(torch.from_numpy(rows).to(cost.device), torch.from_numpy(columns).to(cost.device))
