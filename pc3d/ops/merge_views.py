"""Masks of frames merged two frames by two, and what they make again, by their overlap on what both see."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pc3d.ops._library import define, on_cpu
from pc3d.ops.mask_clusters import components
from pc3d.ops.mask_testimony import SparseRows


def merge_views(counts: SparseRows, visible: SparseRows, frame_of_mask: Tensor, tracks: Tensor, num_superpoints: int, *,
                min_points: float, iou: float, recall: float, track_iou: float) -> tuple[Tensor, Tensor]:
    """Merge the groups of two halves of the frames where they overlap on what both see, up to all frames.

    Rows are the points of M masks and what F frames see of S superpoints; ``frame_of_mask`` (M,) int64 ascends; ``tracks``
    (M,) int64, below 0 for none. Masks of less than ``min_points`` are left out. Overlap is over superpoints, each counted
    by the share of its sightings inside the masks and by the root of how often both groups see it. Groups join at ``iou``, at
    ``recall`` with half that IoU, or at ``track_iou`` if they share a track: a video model saw them to be one.

    Returns the group (M,) int64 of each mask, -1 for none, and of each group (G,) float64 the mean overlap of its joins.
    Open3DIS (CVPR 2024); co-visible overlap: "Details Matter" (ICCV 2025). Raises ValueError for rows that do not fit.
    """
    group, agreement = _op(*counts, *visible, frame_of_mask, tracks, num_superpoints, min_points, iou, recall, track_iou)
    return group, agreement


class _Node(NamedTuple):
    """G groups of the frames below a node of the tree."""

    masks: Tensor       # (K,) all of them
    group: Tensor       # (K,) of each mask
    inside: Tensor      # (G, S) points of a superpoint in the group's masks, over its frames
    seen: Tensor        # (G, S) points of it that the group's own frames see
    tracks: Tensor      # (G, T) which of all tracks its masks have
    overlap: Tensor     # (G,) summed over its joins
    joins: Tensor       # (G,) how many


def _reference(starts: Tensor, superpoints: Tensor, counts: Tensor, visible_starts: Tensor, visible_superpoints: Tensor,
               visible: Tensor, frame_of_mask: Tensor, tracks: Tensor, num_superpoints: int, min_points: float, iou: float,
               recall: float, track_iou: float) -> tuple[Tensor, Tensor]:
    known = tracks[tracks >= 0].unique()
    nodes = []
    for frame, (first, last) in enumerate(zip(visible_starts[:-1].tolist(), visible_starts[1:].tolist())):
        seen = torch.zeros(num_superpoints, dtype=torch.float64)
        seen[visible_superpoints[first:last].long()] = visible[first:last].double()
        masks = torch.nonzero(frame_of_mask == frame).flatten()
        inside = torch.zeros(len(masks), num_superpoints, dtype=torch.float64)
        for row, mask in zip(inside, masks.tolist()):
            entries = slice(int(starts[mask]), int(starts[mask + 1]))
            row[superpoints[entries].long()] = counts[entries].double()
        large = inside.sum(1) >= min_points
        masks, inside = masks[large], inside[large]
        none = torch.zeros(len(masks), dtype=torch.float64)
        nodes.append(_Node(masks, torch.arange(len(masks)), inside, seen.expand_as(inside), tracks[masks, None] == known, none,
                           none))
    while len(nodes) > 1:
        pairs = zip(nodes[::2], nodes[1::2])
        nodes = [_merge(left, right, iou, recall, track_iou) for left, right in pairs] + nodes[len(nodes) // 2 * 2:]
    group = torch.full_like(frame_of_mask, -1)
    if not nodes:
        return group, torch.zeros(0, dtype=torch.float64)
    group[nodes[0].masks] = nodes[0].group
    return group, nodes[0].overlap / nodes[0].joins.clamp(min=1)


def _merge(left: _Node, right: _Node, iou: float, recall: float, track_iou: float) -> _Node:
    if not len(left.masks) or not len(right.masks):
        return left if len(left.masks) else right
    overlap, joined = _overlaps(left, right, iou, recall, track_iou)
    first, second = joined.nonzero().T
    part = components(first, second + len(left.inside), len(left.inside) + len(right.inside))
    to = torch.nn.functional.one_hot(part).T.double()                     # (new groups, old groups)
    new = _Node(*(torch.cat(columns) for columns in zip(left, right)))
    return _Node(new.masks, part[torch.cat([left.group, right.group + len(left.inside)])], to @ new.inside, to @ new.seen,
                 to @ new.tracks.double() > 0, (to @ new.overlap).index_add(0, part[first], overlap[joined]),
                 (to @ new.joins).index_add(0, part[first], torch.ones(len(first), dtype=torch.float64)))


def _overlaps(left: _Node, right: _Node, least_iou: float, least_recall: float, track_iou: float) -> tuple[Tensor, Tensor]:
    """IoU (or recall, where that joins them) of every pair of groups, and which pairs are one object."""
    weight = [node.seen.sqrt() for node in (left, right)]                 # a superpoint counts as well as both see it
    held = [node.inside / node.seen.clamp(min=1) * w for node, w in zip((left, right), weight)]
    common = held[0] @ held[1].T
    area_left, area_right = held[0] @ weight[1].T, weight[0] @ held[1].T
    iou = common / (area_left + area_right - common).clamp(min=1e-9)
    recall = common / torch.minimum(area_left, area_right).clamp(min=1e-9)
    one_track = left.tracks.double() @ right.tracks.double().T > 0
    joined = (iou >= least_iou) | (recall >= least_recall) & (iou >= 0.5 * least_iou) | one_track & (iou >= track_iou)
    return torch.where(iou >= least_iou, iou, recall), joined & (common > 0)


def _fake(starts: Tensor, superpoints: Tensor, counts: Tensor, visible_starts: Tensor, visible_superpoints: Tensor,
          visible: Tensor, frame_of_mask: Tensor, tracks: Tensor, num_superpoints: int, min_points: float, iou: float,
          recall: float, track_iou: float) -> tuple[Tensor, Tensor]:
    groups = torch.library.get_ctx().new_dynamic_size()
    return torch.empty_like(frame_of_mask), frame_of_mask.new_empty(groups, dtype=torch.float64)


_op = define(
    "merge_views(Tensor starts, Tensor superpoints, Tensor counts, Tensor visible_starts, Tensor visible_superpoints, "
    "Tensor visible, Tensor frame_of_mask, Tensor tracks, int num_superpoints, float min_points, float iou, float recall, "
    "float track_iou) -> (Tensor, Tensor)", reference=on_cpu(_reference), fake=_fake)
