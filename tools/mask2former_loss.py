"""What the small Mask2Former is taught with: dense targets at the resolution of its masks, and the losses on them.

transformers' own loss compares masks at a few random points; at these sizes all pixels cost less than the sampling, and say
more. Every decoder layer is matched and taught (Cheng et al., CVPR 2022, the same terms and weights). Besides, a 1x1
convolution on the mask features tells the class and the box of the object at each pixel: it stands in for a backbone's
pre-training, and is thrown away at the end.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, softplus

STRIDE = 4              # of the masks
CLASS_WEIGHT, MASK_WEIGHT, BOX_WEIGHT = 2.0, 5.0, 5.0
NO_OBJECT_WEIGHT = 0.1


class Example(NamedTuple):
    """One frame as the network is taught it."""

    pixels: Tensor      # (3, h, w) normalised
    masks: Tensor       # (K, h, w) of 0 and 1, apart from each other
    labels: Tensor      # (K,)


class Targets(NamedTuple):
    """Frames of a step at 1 / STRIDE of their size, P cells."""

    masks: Tensor           # (B, K, P) share of each cell that belongs to the object; 0 beyond the objects of a frame
    labels: list[Tensor]    # of each frame, up to K
    classes: Tensor         # (B, P) class + 1 at the middle of each cell, 0 outside all objects
    boxes: Tensor           # (B, P, 4) centre, width and height of the object there, in parts of the image


def make_targets(examples: list[Example]) -> Targets:
    """Targets of a batch of frames of one size."""
    count = max(1, *(len(one.labels) for one in examples))
    height, width = (side // STRIDE for side in examples[0].pixels.shape[1:])
    masks = torch.zeros(len(examples), count, height * width)
    classes = torch.zeros(len(examples), height * width, dtype=torch.int64)
    boxes = torch.zeros(len(examples), height * width, 4)
    for row, (_, whole, labels) in enumerate(examples):
        if len(labels):
            masks[row, : len(labels)] = avg_pool2d(whole[None], STRIDE)[0].flatten(1)
            middle = whole[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].flatten(1)
            inside, owner = middle.max(0)
            classes[row] = torch.where(inside > 0, labels[owner] + 1, 0)
            boxes[row] = _boxes(whole)[owner] * inside[:, None]
    return Targets(masks, [one.labels for one in examples], classes, boxes)


def _boxes(masks: Tensor) -> Tensor:
    """Centre of mass (x, y), width and height (K, 4) of masks (K, h, w), in parts of the image."""
    found = []
    for axis in (1, 2):
        profile = masks.sum(axis)
        places = (torch.arange(profile.shape[1]) + 0.5) / profile.shape[1]
        found.append(((profile * places).sum(1) / profile.sum(1), (profile > 0).float().mean(1)))
    (x, width), (y, height) = found
    return torch.stack([x, y, width, height], 1)


def set_loss(class_logits: Tensor, mask_logits: Tensor, targets: Targets) -> Tensor:
    """Loss of queries, summed over layers: class logits (L, B, Q, C + 1), the last for none, mask logits (L, B, Q, P).

    Each layer's queries are matched to the objects of each frame, one to one, at the least sum of class, cross-entropy and
    dice terms; the terms of the matched pairs are the loss, those of masks divided by the number of objects.
    """
    costs = MASK_WEIGHT * mask_costs(mask_logits, targets.masks)
    probabilities, layers, none = class_logits.detach().softmax(-1), len(class_logits), class_logits.shape[-1] - 1
    wanted = torch.full(class_logits.shape[:3], none)
    matched = []
    for row, labels in enumerate(targets.labels):
        table = costs.detach()[:, row, :, : len(labels)] - CLASS_WEIGHT * probabilities[:, row][..., labels]
        for layer in range(layers):
            queries, objects = (torch.as_tensor(index) for index in linear_sum_assignment(table[layer].numpy()))
            wanted[layer, row, queries] = labels[objects]
            matched.append(costs[layer, row, queries, objects].sum())
    weights = torch.ones(none + 1)
    weights[none] = NO_OBJECT_WEIGHT
    named = sum(cross_entropy(logits.flatten(0, 1), rows.flatten(), weights) for logits, rows in zip(class_logits, wanted))
    return torch.stack(matched).sum() / max(1, sum(map(len, targets.labels))) + CLASS_WEIGHT * named


def mask_costs(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean binary cross-entropy plus dice (..., Q, K) of each query's mask logits (..., Q, P) with each mask (..., K, P)."""
    turned, inside = masks.transpose(-1, -2), logits.sigmoid()
    entropy = (softplus(logits).sum(-1, keepdim=True) - logits @ turned) / logits.shape[-1]
    sizes = inside.sum(-1, keepdim=True) + masks.sum(-1)[..., None, :]
    return entropy + 1 - (2 * inside @ turned + 1) / (sizes + 1)


class DenseHead(nn.Module):
    """Class and box of the object at each pixel, from the mask features (B, C, h, w) alone."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, classes + 1 + 4, 1)

    def forward(self, features: Tensor, targets: Targets) -> Tensor:
        """Cross-entropy of classes, plus the distance (L1) of boxes at pixels of objects."""
        found = self.project(features).flatten(2).transpose(1, 2)
        logits, boxes = found[..., :-4], found[..., -4:]
        inside = targets.classes > 0
        distance = (boxes - targets.boxes).abs().sum(-1)[inside].sum() / inside.sum().clamp(min=1)
        return cross_entropy(logits.flatten(0, 1), targets.classes.flatten()) + BOX_WEIGHT * distance
