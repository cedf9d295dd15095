"""From groups of masks to instances: which superpoints a group holds, whether they hang together, how sure, of which class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array
from scipy.sparse.csgraph import connected_components

from pc3d.lift.config import LiftConfig
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes, keep, lookup
from pc3d.structures import Instances

BEST_FRAMES = 5  # kept as evidence


@dataclass(frozen=True, eq=False)
class Groups:
    """G groups of masks that a method takes for one object each."""

    group_of_mask: NDArray[np.int64]                # (M,), -1 for none
    observed: csr_matrix                            # (G, F) frames that have a say about the group
    agreement: NDArray[np.float64]                  # (G,) how far its masks agree, in [0, 1]
    extent: csr_matrix | None = None                # (G, S) superpoints, where the method itself settles them


def finish(groups: Groups, votes: Votes, scan: LiftScan, config: LiftConfig) -> Instances:
    """Refine, split, score and label groups of masks: instances over the scan's superpoints by falling score."""
    belongs = membership(groups, votes)
    extent = detected(groups, belongs, votes, config) if groups.extent is None else groups.extent
    group, masks = split_by_links(extent, scan.links(config.link_distance))
    kept = masks @ votes.sizes >= config.min_points
    group, masks = group[kept], masks[kept]
    return _instances(groups, belongs, group, masks, votes, scan, config)


def membership(groups: Groups, votes: Votes) -> csr_matrix:
    """Which masks belong to which group (G, M), as ones."""
    member = np.flatnonzero(groups.group_of_mask >= 0)
    shape = (groups.observed.shape[0], votes.num_masks)
    return csr_matrix((np.ones(len(member), np.int32), (groups.group_of_mask[member], member)), shape=shape)


def detected(groups: Groups, belongs: csr_matrix, votes: Votes, config: LiftConfig) -> csr_matrix:
    """Superpoints (G, S) whose points, over all frames with a say, lie in the group's masks often enough.

    The detection ratio of MaskClustering, over superpoints and weighted by visible points.
    """
    hits = (belongs @ votes.counts).tocsr()
    seen = (groups.observed.astype(np.int32) @ votes.visible).tocsr()
    seen.sort_indices()
    total = lookup(seen, np.repeat(np.arange(hits.shape[0]), np.diff(hits.indptr)), hits.indices)
    return keep(hits, hits.data >= config.detection_share * np.maximum(total, 1))


def split_by_links(extent: csr_matrix, links: csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cut each group where its superpoints do not hang together: group (P,) and mask (P, S) of every part."""
    owners, parts = [], []
    for group in range(extent.shape[0]):
        inside = extent.indices[extent.indptr[group]:extent.indptr[group + 1]]
        if not len(inside):
            continue
        number, part = connected_components(links[inside][:, inside], directed=False)
        for one in range(number):
            mask = np.zeros(extent.shape[1], bool)
            mask[inside[part == one]] = True
            owners.append(group)
            parts.append(mask)
    return np.array(owners, np.int64), np.array(parts, bool).reshape(-1, extent.shape[1])


def _instances(groups: Groups, belongs: csr_matrix, group: NDArray[np.int64], masks: NDArray[np.bool_], votes: Votes,
               scan: LiftScan, config: LiftConfig) -> Instances:
    inside = csr_matrix(masks.astype(np.int32)) @ votes.counts.T      # (P, M) points of a mask in a part
    inside = inside.multiply(belongs[group]).tocsr()                  # of the group's own masks
    share = inside @ diags_array(1 / np.maximum(_totals(votes), 1))
    speaks = share > config.member_share                              # masks that lie mostly in the part
    num_masks = np.asarray(speaks.sum(axis=1)).reshape(-1)
    frames = (speaks @ _frame_of(votes)).tocsr()
    views = np.diff(frames.indptr)
    quality = np.asarray(speaks @ votes.scores).reshape(-1) / np.maximum(num_masks, 1)
    scores = groups.agreement[group] * quality * (1 - np.exp(-views / config.view_scale))
    label_votes = _label_votes(inside, votes)
    order = np.argsort(-scores, kind="stable")
    order = order[(num_masks >= config.min_masks)[order]]
    order = order[_not_contained(masks[order], votes.sizes, config.contained_object)]
    evidence = {"num_frames": views, "num_masks": num_masks, "num_votes": np.asarray(inside.sum(axis=1)).reshape(-1),
                "agreement": groups.agreement[group], "mask_score": quality, "best_frames": _best_frames(inside, votes)}
    if votes.classes:
        evidence["label_votes"] = label_votes
    return Instances.from_masks(masks[order], label_votes.argmax(axis=1)[order], np.clip(scores, 0, 1)[order],
                                votes.classes or ("object",), scan.point_to_superpoint,
                                {name: np.asarray(value)[order] for name, value in evidence.items()})


def _totals(votes: Votes) -> NDArray[np.int64]:
    return np.asarray(votes.counts.sum(axis=1)).reshape(-1)


def _frame_of(votes: Votes) -> csr_matrix:
    """(M, F) ones where a mask is of a frame."""
    count = votes.num_masks
    return csr_matrix((np.ones(count, np.int32), votes.frame_of_mask, np.arange(count + 1)), shape=(count, votes.num_frames))


def _label_votes(inside: csr_matrix, votes: Votes) -> NDArray[np.float32]:
    """Share of each class (P, C) in the points of labelled masks, weighted by their scores; one column without classes."""
    count = max(len(votes.classes), 1)
    known = np.flatnonzero(votes.labels >= 0)
    weight = csr_matrix((votes.scores[known], (known, votes.labels[known])), shape=(votes.num_masks, count))
    total = (inside @ weight).toarray()
    return (total / np.maximum(total.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)


def _best_frames(inside: csr_matrix, votes: Votes) -> NDArray[np.int64]:
    """Rows of the frames (P, 5) whose masks hold most of a part, -1 where there are fewer."""
    by_frame = (inside @ _frame_of(votes)).toarray()
    count = min(BEST_FRAMES, by_frame.shape[1])
    order = np.argsort(-by_frame, axis=1, kind="stable")[:, :count]
    found = np.where(np.take_along_axis(by_frame, order, axis=1) > 0, order, -1)
    return np.pad(found, ((0, 0), (0, BEST_FRAMES - count)), constant_values=-1)


def _not_contained(masks: NDArray[np.bool_], sizes: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Rows, best score first, of which no better one holds more than ``share``."""
    weight = masks.astype(np.float32) * sizes
    common = weight @ masks.T.astype(np.float32)
    area = np.maximum(weight.sum(axis=1), 1)
    kept: list[int] = []
    for row in range(len(masks)):
        if not kept or (common[row, kept] <= share * area[row]).all():
            kept.append(row)
    return np.array(kept, np.int64)
