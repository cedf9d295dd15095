"""From the queries of the last decoder layer to instances."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pc3d.config import InferenceConfig, ModelConfig
from pc3d.structures import Instances, PointBatch, Relation3DOutput
from pc3d.structures.suppression import suppress


@torch.no_grad()
def to_instances(output: Relation3DOutput, batch: PointBatch, scan_index: int, config: ModelConfig) -> Instances:
    """Read the instances of one scan off the last layer, best score first, as masks over its superpoints.

    Class-agnostic NMS over the queries, best first, then the best (query, class) pairs, each scored by class probability
    times mean mask probability inside the mask. A mask may appear under several classes.
    """
    layer, options = output.layers[-1], config.inference
    points = slice(int(batch.offsets[scan_index]), int(batch.offsets[scan_index + 1]))
    point_to_superpoint = batch.point_to_superpoint[points] - batch.superpoint_offsets[scan_index]
    logits = layer.masks[scan_index]
    sizes = torch.bincount(point_to_superpoint, minlength=logits.shape[1])
    masks = logits > 0
    inside = masks.to(_exact(sizes))
    num_points, num_superpoints = inside @ sizes.to(inside.dtype), inside.sum(dim=1)
    probability = layer.class_logits[scan_index].softmax(dim=1)[:, :-1]
    mask_score = (logits.sigmoid() * inside).sum(dim=1) / (num_superpoints + 1e-6)
    confidence = probability.amax(dim=1) * (num_superpoints > 0)
    best = confidence * mask_score if options.nms_order == "score" else confidence
    weights = sizes if options.nms_area == "points" else torch.ones_like(sizes)
    kept = nms(inside, best, weights, options.nms_iou)
    class_score, pairs = probability[kept].flatten().topk(min(options.topk, len(kept) * probability.shape[1]))
    query, labels = kept[pairs // probability.shape[1]], pairs % probability.shape[1]
    score = class_score * mask_score[query]
    if options.score_head:
        score = score * layer.scores[scan_index, query].clamp(0, 1)
    rows = _worth_showing(score, num_points[query], options)
    shown = score[rows] if options.score_decimals is None else score[rows].round(decimals=options.score_decimals)
    bits = np.packbits(_numpy(masks), axis=1, bitorder="little")
    return Instances(
        bits[_numpy(query[rows])], masks.shape[1], _numpy(labels[rows]), _numpy(shown.float()), config.classes,
        _numpy(point_to_superpoint),
        evidence={"mask_score": _numpy(mask_score[query[rows]]), "class_score": _numpy(class_score[rows])})


def nms(masks: Tensor, scores: Tensor, weights: Tensor, max_iou: float) -> Tensor:
    """Greedy suppression of masks (K, S) by IoU, segments counted by weight (S,); returns the kept rows, best first."""
    rows = masks.to(_exact(weights))
    intersection = ((rows * weights) @ rows.T).double()
    area = intersection.diagonal()
    iou = intersection / (area[:, None] + area[None] - intersection + 1e-6)
    kept = suppress(_numpy(iou > max_iou), _numpy(scores.argsort(descending=True, stable=True)))
    return torch.from_numpy(kept).to(scores.device)


def _exact(weights: Tensor) -> torch.dtype:
    """The fastest type in which any sum of these whole numbers is exact."""
    return torch.float32 if int(weights.sum()) < 2**24 else torch.float64


def _worth_showing(score: Tensor, num_points: Tensor, options: InferenceConfig) -> Tensor:
    """Rows over the score threshold and the size limit, best score first."""
    order = score.argsort(descending=True, stable=True)
    passed = (score > options.score_threshold) & (num_points > options.min_points)
    return order[passed[order]]


def _numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.cpu().numpy()
    return array
