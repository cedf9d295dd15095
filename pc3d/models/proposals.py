"""What a network proposes for one scan, and what several views of the scan agree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pc3d.config import InferenceConfig
from pc3d.structures import Relation3DOutput
from pc3d.structures.suppression import suppress

ALIKE = 0.5     # IoU from which proposals of two views are of the same object


class Proposals(NamedTuple):
    """K masks over the S superpoints of a scan."""

    masks: Tensor     # (K, S) logits
    classes: Tensor   # (K, C) probabilities
    quality: Tensor   # (K,) predicted IoU of a mask and its object, 0 to 1; ones where the network is not asked for it

    @classmethod
    def of(cls, output: Relation3DOutput, scan_index: int, options: InferenceConfig) -> Proposals:
        """The queries of the last layer, for one scan of a batch."""
        layer = output.layers[-1]
        quality = layer.scores[scan_index].clamp(0, 1)
        return cls(layer.masks[scan_index], layer.class_logits[scan_index].softmax(dim=1)[:, :-1],
                   quality if options.score_head else torch.ones_like(quality))

    def mask_scores(self) -> Tensor:
        """Mean probability inside each mask (K,)."""
        inside = (self.masks > 0).to(self.masks.dtype)
        return (self.masks.sigmoid() * inside).sum(dim=1) / (inside.sum(dim=1) + 1e-6)

    def worth(self, mask_scores: Tensor, options: InferenceConfig) -> Tensor:
        """What decides which of two masks stays (K,); 0 for empty ones."""
        surest = self.classes.amax(dim=1) * (mask_scores > 0)
        return surest if options.nms_order == "class" else surest * mask_scores * self.quality


def agreed(views: Sequence[Proposals], sizes: Tensor, options: InferenceConfig) -> Proposals:
    """What several views of one scan propose together, over the same superpoints of ``sizes`` (S,) points.

    Weighted boxes fusion (Solovyev et al. 2021), of masks: the best proposals that do not overlap gather one of every view
    each, of those that are alike the best and closest. Masks, class probabilities and qualities become means, weighted by
    worth; the share of the views that take part multiplies the probabilities.
    """
    every = Proposals(*(torch.cat(column) for column in zip(*views)))
    worth, iou = every.worth(every.mask_scores(), options), overlaps(every.masks > 0, sizes)
    kept = best_of(iou, worth, options.nms_iou)
    kept = kept[worth[kept] > 0]
    fit = torch.where(iou[kept] >= ALIKE, iou[kept] * worth, 0).view(len(kept), len(views), len(worth) // len(views))
    found, partner = fit.max(dim=2)
    partner += fit.shape[2] * torch.arange(len(views), device=partner.device)
    weights = torch.zeros_like(iou[kept]).scatter(1, partner, torch.where(found > 0, worth[partner], 0).to(iou.dtype))
    weights = (weights / weights.sum(dim=1, keepdim=True)).to(every.masks.dtype)
    share = (found > 0).to(weights.dtype).mean(dim=1, keepdim=True)
    return Proposals((weights @ every.masks.sigmoid()).logit(), share * (weights @ every.classes), weights @ every.quality)


def overlaps(masks: Tensor, weights: Tensor) -> Tensor:
    """IoU (K, K) float64 of masks (K, S), segments counted by weight (S,)."""
    rows = masks.to(exact_type(weights))
    intersection = ((rows * weights) @ rows.T).double()
    area = intersection.diagonal()
    return intersection / (area[:, None] + area[None] - intersection + 1e-6)


def best_of(iou: Tensor, worth: Tensor, max_iou: float) -> Tensor:
    """Rows that greedy suppression keeps, best first: none overlaps a better one by more than ``max_iou``."""
    order = worth.argsort(descending=True, stable=True)
    kept = suppress(to_numpy(iou > max_iou), to_numpy(order))
    return torch.from_numpy(kept).to(worth.device)


def exact_type(weights: Tensor) -> torch.dtype:
    """The fastest type in which any sum of these whole numbers is exact."""
    return torch.float32 if int(weights.sum()) < 2**24 else torch.float64


def to_numpy(tensor: Tensor) -> np.ndarray:
    """The same values as an array."""
    array: np.ndarray = tensor.cpu().numpy()
    return array
