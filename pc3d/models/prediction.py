"""From what a network proposes to instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pc3d.config import InferenceConfig, ModelConfig
from pc3d.models.proposals import Proposals, agreed, best_of, exact_type, overlaps
from pc3d.structures import Instances


@torch.no_grad()
def to_instances(views: Sequence[Proposals], point_to_superpoint: Tensor, config: ModelConfig) -> Instances:
    """The instances of one scan, best score first, as masks over its superpoints, from one or more views of it.

    Class-agnostic NMS over the proposals, best first, then the best (proposal, class) pairs, each scored by class probability
    times mean mask probability inside the mask, and the quality that the network predicts where ``score_head`` asks for it.
    A mask may appear under several classes.
    """
    options, num_superpoints = config.inference, views[0].masks.shape[1]
    sizes = torch.bincount(point_to_superpoint, minlength=num_superpoints)
    proposals = views[0] if len(views) == 1 else agreed(views, sizes, options)
    masks = proposals.masks > 0
    weights = sizes if options.nms_area == "points" else torch.ones_like(sizes)
    kept = best_of(overlaps(masks, weights), proposals.worth(options), options.nms_iou)
    probability = proposals.classes[kept]
    class_score, pairs = probability.flatten().topk(min(options.topk, probability.numel()))
    row, labels = kept[pairs // probability.shape[1]], pairs % probability.shape[1]
    mask_score, exact = proposals.mask_scores()[row], exact_type(sizes)
    num_points = (masks.to(exact) @ sizes.to(exact))[row]
    score = class_score * mask_score * proposals.quality[row]
    shown = _worth_showing(score, num_points, options)
    scores = score[shown] if options.score_decimals is None else score[shown].round(decimals=options.score_decimals)
    bits = np.packbits(_numpy(masks), axis=1, bitorder="little")
    return Instances(
        bits[_numpy(row[shown])], num_superpoints, _numpy(labels[shown]), _numpy(scores.float()), config.classes,
        _numpy(point_to_superpoint),
        evidence={"mask_score": _numpy(mask_score[shown]), "class_score": _numpy(class_score[shown])})


def _worth_showing(score: Tensor, num_points: Tensor, options: InferenceConfig) -> Tensor:
    """Rows over the score threshold and the size limit, best score first."""
    order = score.argsort(descending=True, stable=True)
    passed = (score > options.score_threshold) & (num_points > options.min_points)
    return order[passed[order]]


def _numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.cpu().numpy()
    return array
