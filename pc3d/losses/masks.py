"""Losses and overlaps between predicted and true masks, and all pairs of them as matching costs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bce_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean binary cross-entropy over (I, S) logits and their masks."""
    return F.binary_cross_entropy_with_logits(logits, masks)


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean over pairs of 1 - (2 p.g + 1) / (sum p + sum g + 1), p = sigmoid(logits); both (I, S)."""
    p = logits.sigmoid()
    return (1 - (2 * (p * masks).sum(1) + 1) / (p.sum(1) + masks.sum(1) + 1)).mean()


@torch.no_grad()
def mask_iou(logits: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union (I,) of logits > 0 and masks, both (I, S)."""
    predicted = (logits > 0).to(masks.dtype)
    intersection = (predicted * masks).sum(1)
    return intersection / (predicted.sum(1) + masks.sum(1) - intersection + 1e-6)


def bce_cost(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean binary cross-entropy of every query (K, S) with every instance (I, S), as (K, I)."""
    absent, present = F.softplus(logits), F.softplus(-logits)
    return (present @ masks.T + absent @ (1 - masks).T) / logits.shape[1]


def dice_cost(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice loss of every query (K, S) with every instance (I, S), as (K, I)."""
    p = logits.sigmoid()
    return 1 - (2 * p @ masks.T + 1) / (p.sum(1)[:, None] + masks.sum(1)[None] + 1)
