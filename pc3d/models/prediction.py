"""From what a network proposes to instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from pc3d.config import InferenceConfig, ModelConfig
from pc3d.models.proposals import Proposals, agreed, best_of, exact_type, overlaps, to_numpy
from pc3d.structures import Instances
from pc3d.superpoints import links


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
    mask_scores = proposals.mask_scores()
    kept = best_of(overlaps(masks, weights), proposals.worth(mask_scores, options), options.nms_iou)
    probability = proposals.classes[kept]
    class_score, pairs = probability.flatten().topk(min(options.topk, probability.numel()))
    row, labels = kept[pairs // probability.shape[1]], pairs % probability.shape[1]
    mask_score, exact = mask_scores[row], exact_type(sizes)
    num_points = (masks.to(exact) @ sizes.to(exact))[row]
    score = class_score * mask_score * proposals.quality[row]
    shown = _worth_showing(score, num_points, options)
    scores = score[shown] if options.score_decimals is None else score[shown].round(decimals=options.score_decimals)
    bits = np.packbits(to_numpy(masks), axis=1, bitorder="little")
    return Instances(
        bits[to_numpy(row[shown])], num_superpoints, to_numpy(labels[shown]), to_numpy(scores.float()), config.classes,
        to_numpy(point_to_superpoint),
        evidence={"mask_score": to_numpy(mask_score[shown]), "class_score": to_numpy(class_score[shown])})


def split_at_gaps(instances: Instances, xyz: NDArray[np.float32], options: InferenceConfig) -> Instances:
    """Instances over superpoints of points (N, 3), each cut where ``split_gap`` metres or more part its superpoints.

    Every part that is large enough is an instance; the share that it has of the points multiplies the score. (Mask3D cuts
    its masks so, by DBSCAN.) Gaps are told by superpoint_links: for sure from 1.8 times as wide.
    """
    assert instances.point_to_superpoint is not None
    assert options.split_gap is not None
    whole, parts = links.split_at_gaps(csr_matrix(instances.segment_masks), xyz, instances.point_to_superpoint,
                                       options.split_gap)
    num_points = parts @ instances.segment_sizes
    scores = instances.scores[whole] * num_points / instances.num_points[whole]
    kept = np.flatnonzero(num_points > options.min_points)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    whole = whole[kept]
    return Instances.from_masks(parts[kept].toarray() > 0, instances.labels[whole], scores[kept], instances.classes,
                                instances.point_to_superpoint, {name: rows[whole] for name, rows in instances.evidence.items()})


def _worth_showing(score: Tensor, num_points: Tensor, options: InferenceConfig) -> Tensor:
    """Rows over the score threshold and the size limit, best score first."""
    order = score.argsort(descending=True, stable=True)
    passed = (score > options.score_threshold) & (num_points > options.min_points)
    return order[passed[order]]
