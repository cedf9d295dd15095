"""Hierarchical merging (Open3DIS, CVPR 2024): frames pairwise, then pairs of frames, up a binary tree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from scipy.sparse.csgraph import connected_components

from pc3d.lift.config import LiftConfig
from pc3d.lift.methods.groups import Groups
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes


@dataclass(frozen=True, eq=False)
class Node:
    """Groups of the frames below a node of the tree."""

    masks: list[list[int]]          # of each group
    inside: csr_matrix              # (G, S) points of a superpoint in the group's masks, over its frames
    seen: csr_matrix                # (G, S) points of it that the group's own frames see
    agreement: list[list[float]]    # overlap of each merge of a group
    tracks: list[frozenset[int]]    # of each group, those of its masks that have one


def hierarchical(votes: Votes, scan: LiftScan, config: LiftConfig) -> Groups:
    """Merge the groups of two halves of the frames where they overlap on what both see, up to all frames.

    Overlap is IoU or recall over superpoints that the frames of both groups see, each counted by the share of its sightings
    inside the masks ("Details Matter", ICCV 2025: compare on co-visible superpoints only). Groups that share a track need
    less overlap: a video model saw them to be one.
    """
    leaves = [_leaf(votes, frame, config) for frame in range(votes.num_frames)]
    while len(leaves) > 1:
        pairs = zip(leaves[::2], leaves[1::2])
        leaves = [_merge(left, right, config) for left, right in pairs] + leaves[len(leaves) // 2 * 2:]
    return _as_groups(leaves[0], votes) if leaves else empty_groups(votes)


def empty_groups(votes: Votes) -> Groups:
    """No groups at all."""
    return Groups(np.full(votes.num_masks, -1, np.int64), csr_matrix((0, votes.num_frames), dtype=bool), np.zeros(0))


def _leaf(votes: Votes, frame: int, config: LiftConfig) -> Node:
    first, last = np.searchsorted(votes.frame_of_mask, [frame, frame + 1])
    counts = votes.counts[first:last].astype(np.float32)
    large = np.asarray(counts.sum(axis=1)).reshape(-1) >= config.min_mask_points
    rows = np.flatnonzero(large)
    seen = votes.visible[np.full(len(rows), frame)].astype(np.float32)
    tracks = [frozenset(t for t in (int(votes.tracks[first + row]),) if t >= 0) for row in rows]
    return Node([[int(first + row)] for row in rows], counts[rows], seen, [[] for _ in rows], tracks)


def _merge(left: Node, right: Node, config: LiftConfig) -> Node:
    masks, agreements = left.masks + right.masks, left.agreement + right.agreement
    if not left.masks or not right.masks:
        return left if left.masks else right
    overlap, joined = _overlaps(left, right, config)
    row, column = np.nonzero(joined)
    count = len(masks)
    graph = csr_matrix((np.ones(len(row), bool), (row, column + len(left.masks))), shape=(count, count))
    number, part = connected_components(graph, directed=False)
    to = csr_matrix((np.ones(count, np.float32), (part, np.arange(count))), shape=(number, count))
    new_masks: list[list[int]] = [[] for _ in range(number)]
    new_agreement: list[list[float]] = [[] for _ in range(number)]
    new_tracks: list[frozenset[int]] = [frozenset() for _ in range(number)]
    for group, tracks in enumerate(left.tracks + right.tracks):
        new_masks[part[group]] += masks[group]
        new_agreement[part[group]] += agreements[group]
        new_tracks[part[group]] |= tracks
    for i, j in zip(row, column):
        new_agreement[part[i]].append(float(overlap[i, j]))
    return Node(new_masks, (to @ vstack([left.inside, right.inside])).tocsr(),
                (to @ vstack([left.seen, right.seen])).tocsr(), new_agreement, new_tracks)


def _overlaps(left: Node, right: Node, config: LiftConfig) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """IoU (or recall, where that joins them) of every pair of groups, and which pairs are one object."""
    used = np.union1d(left.inside.indices, right.inside.indices)        # where no mask lies there is nothing to compare
    inside, seen = ([getattr(node, name)[:, used].toarray() for node in (left, right)] for name in ("inside", "seen"))
    weight = [np.sqrt(one) for one in seen]                             # a superpoint counts as well as both see it
    held = [i / np.maximum(s, 1) * w for i, s, w in zip(inside, seen, weight)]
    common = held[0] @ held[1].T
    area_left, area_right = held[0] @ weight[1].T, weight[0] @ held[1].T
    iou = common / np.maximum(area_left + area_right - common, 1e-9)
    recall = common / np.maximum(np.minimum(area_left, area_right), 1e-9)
    contained = (recall >= config.merge_recall) & (iou >= 0.5 * config.merge_iou)
    joined = (iou >= config.merge_iou) | contained
    for i, j in ((i, j) for i, one in enumerate(left.tracks) if one for j, other in enumerate(right.tracks) if one & other):
        joined[i, j] |= iou[i, j] >= config.track_iou
    return np.where(iou >= config.merge_iou, iou, recall), joined & (common > 0)


def _as_groups(root: Node, votes: Votes) -> Groups:
    group_of_mask = np.full(votes.num_masks, -1, np.int64)
    frames = []
    for group, masks in enumerate(root.masks):
        group_of_mask[masks] = group
        frames += [(group, votes.frame_of_mask[mask]) for mask in masks]
    row, column = np.array(frames, np.int64).reshape(-1, 2).T
    observed = csr_matrix((np.ones(len(row), bool), (row, column)), shape=(len(root.masks), votes.num_frames))
    means = np.array([np.mean(values) if values else 0.0 for values in root.agreement])
    return Groups(group_of_mask, observed, means)
