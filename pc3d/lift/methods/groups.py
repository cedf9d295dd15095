"""From groups of masks to instances: which superpoints a group holds, whether they hang together, how sure, of which class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, vstack
from scipy.sparse.csgraph import connected_components

from pc3d.lift.config import LiftConfig
from pc3d.lift.masks import UNNAMED
from pc3d.lift.pieces import Extent
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Torn, Votes, dots
from pc3d.structures import Instances
from pc3d.structures.sparse import keep, ones_at, rows_of

BEST_FRAMES = 5  # kept as evidence


@dataclass(frozen=True, eq=False)
class Groups:
    """G groups of masks that a method takes for one object each."""

    group_of_mask: NDArray[np.int64]                # (M,), -1 for none
    observed: csr_matrix                            # (G, F) frames that have a say about the group
    agreement: NDArray[np.float64]                  # (G,) how far its masks agree, in [0, 1]
    extent: Extent | None = None                    # where the method itself settles it


def finish(groups: Groups, votes: Votes, scan: LiftScan, config: LiftConfig) -> Instances:
    """Refine, split, score and label groups of masks: instances over the scan's superpoints by falling score."""
    groups = _of_masks_enough(groups, config.min_masks)
    belongs = membership(groups.group_of_mask, votes)
    extent = detected(groups, belongs, votes, config) if groups.extent is None else groups.extent
    parts = scan.split_at_gaps(extent.touched(votes.pieces), config.gap_distance)
    return instances_of_parts(groups, belongs, *parts, extent, votes, config)


def _of_masks_enough(groups: Groups, least: int) -> Groups:
    """The groups of at least so many masks: no part of another can be an instance."""
    own = groups.group_of_mask
    kept = np.bincount(own[own >= 0], minlength=len(groups.agreement)) >= least
    if kept.all() or groups.extent is not None:
        return groups
    number = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1)      # the last is that of masks without a group
    return Groups(number[own], groups.observed[kept], groups.agreement[kept])


def membership(group_of_mask: NDArray[np.int64], votes: Votes) -> csr_matrix:
    """Which masks belong to which group (G, M), as ones."""
    member = np.argsort(group_of_mask, kind="stable")[np.count_nonzero(group_of_mask < 0):]
    return ones_at(group_of_mask[member], member, (int(group_of_mask.max(initial=-1)) + 1, votes.num_masks))


def seen_in(group_of_mask: NDArray[np.int64], votes: Votes) -> csr_matrix:
    """Frames (G, F) with a mask of the group."""
    return (membership(group_of_mask, votes) @ votes.frames).tocsr() > 0


def detected(groups: Groups, belongs: csr_matrix, votes: Votes, config: LiftConfig) -> Extent:
    """Superpoints, and pieces of them, whose points, over all frames with a say, lie in the group's masks often enough.

    The detection ratio of MaskClustering, over superpoints and weighted by visible points. A superpoint of which the masks
    hold a part is torn: each of its pieces has a ratio of its own, drawn towards that of the superpoint.
    """
    hits = (belongs @ votes.counts).tocsr()
    hits.sort_indices()
    total = np.maximum(votes.seen(groups.observed, hits), 1)
    share = hits.data / total
    torn = (share > config.cut_share) & (share < 1 - config.cut_share)
    whole, pairs = (keep(hits, entries, dtype=np.int32) for entries in (~torn & (share >= config.detection_share), torn))
    ratio, _ = votes.ratios(Torn(pairs, hits.data[torn], total[torn]), belongs, groups.observed, config.cut_prior, config.sure)
    return Extent(whole, pairs, ratio >= config.detection_share)


def join_tracks(groups: Groups, votes: Votes, config: LiftConfig) -> Groups:
    """Make one of groups whose masks a video model followed as one object: each keeps what it holds, and they hold it together.

    Two groups join where as many of their masks are of common tracks, the fewer of both for each track, as ``track_share`` of
    the larger group has masks. A track that strays for some frames joins nothing, nor does a group of few masks: most of those
    are of masks that are wrong. Without tracks nothing changes.
    """
    own, count = groups.group_of_mask, groups.observed.shape[0]
    tracked = np.flatnonzero((own >= 0) & (votes.tracks >= 0))
    if not len(tracked):
        return groups
    number, track = np.unique(votes.tracks[tracked], return_inverse=True)
    held = csr_matrix((np.ones(len(tracked), np.int64), (track.reshape(-1), own[tracked])), shape=(len(number), count))
    sizes = np.bincount(own[own >= 0], minlength=count)
    common = _common_tracks(held)
    first, second = common.row, common.col
    one = common.data >= config.track_share * np.maximum(sizes[first], sizes[second])
    left, part = connected_components(csr_matrix((one[one], (first[one], second[one])), shape=(count, count)), directed=False)
    if left == count:
        return groups
    to = csr_matrix((np.ones(count, np.int32), (part, np.arange(count))), shape=(left, count))
    extent = detected(groups, membership(own, votes), votes, config) if groups.extent is None else groups.extent
    agreement = np.bincount(part, groups.agreement * sizes) / np.maximum(np.bincount(part, sizes), 1)
    return Groups(np.where(own >= 0, part[own], -1), (to @ groups.observed.astype(np.int32)) > 0, agreement,
                  extent.joined(to, votes.pieces))


def _common_tracks(held: csr_matrix) -> coo_matrix:
    """For each pair of groups the fewer of their masks of each track, summed (G, G), from masks by track and group (T, G)."""
    pairs = [np.zeros((0, 3), np.int64)]
    for track in np.flatnonzero(np.diff(held.indptr) > 1):
        entries = slice(held.indptr[track], held.indptr[track + 1])
        group, masks = held.indices[entries], held.data[entries]
        first, second = np.triu_indices(len(group), 1)
        pairs.append(np.stack([group[first], group[second], np.minimum(masks[first], masks[second])], axis=1))
    first, second, fewer = np.concatenate(pairs).T
    return csr_matrix((fewer, (np.minimum(first, second), np.maximum(first, second))), shape=(held.shape[1],) * 2).tocoo()


def instances_of_parts(groups: Groups, belongs: csr_matrix, group: NDArray[np.int64], masks: csr_matrix, extent: Extent,
                       votes: Votes, config: LiftConfig) -> Instances:
    """Score and label the parts of groups: of each its group (P,) and the superpoints (P, S) it has something of, as ones."""
    pieces = extent.on_pieces(group, masks, votes.pieces)
    kept = np.flatnonzero(pieces @ votes.pieces.sizes >= config.min_points)
    group, masks, pieces = group[kept], masks[kept], pieces[kept]
    inside = _points_of_masks(belongs[group], masks, votes)
    speaks = keep(inside, inside.data * (1 / np.maximum(votes.points, 1))[inside.indices] > config.member_share)  # mostly in it
    num_masks = np.asarray(speaks.sum(axis=1)).reshape(-1)
    frames = (speaks @ votes.frames).tocsr()
    views = np.diff(frames.indptr)
    quality = np.asarray(speaks @ votes.scores).reshape(-1) / np.maximum(num_masks, 1)
    scores = groups.agreement[group] * quality * (1 - np.exp(-views / config.view_scale))
    label_votes = _label_votes(inside, votes)
    order = np.argsort(-scores, kind="stable")
    order = order[(num_masks >= config.min_masks)[order]]
    order = order[_not_contained(pieces[order], votes.pieces.sizes, config.contained_object)]
    evidence = {"num_frames": views, "num_masks": num_masks, "num_votes": np.asarray(inside.sum(axis=1)).reshape(-1),
                "agreement": groups.agreement[group], "mask_score": quality, "best_frames": _best_frames(inside, votes)}
    if votes.classes:
        evidence["label_votes"] = label_votes
    on_segments, segments = votes.pieces.segments(pieces[order])
    classes, labels = _named(label_votes[order], votes.classes)
    return Instances.from_masks(on_segments, labels, np.clip(scores, 0, 1)[order], classes,
                                segments[votes.pieces.point_to_piece],
                                {name: np.asarray(value)[order] for name, value in evidence.items()})


def _points_of_masks(own: csr_matrix, parts: csr_matrix, votes: Votes) -> csr_matrix:
    """Points (P, M) of parts (P, S) in those masks of each that are its own (P, M)."""
    points = dots(vstack([parts, votes.counts], format="csr"), rows_of(own), own.indices + len(own.indptr) - 1)
    return csr_matrix((points.astype(np.int32), own.indices, own.indptr), shape=own.shape)


def _label_votes(inside: csr_matrix, votes: Votes) -> NDArray[np.float32]:
    """Share of each class (P, C) in the points of labelled masks, weighted by their scores; one column without classes."""
    count = max(len(votes.classes), 1)
    known = np.flatnonzero(votes.labels >= 0)
    weight = csr_matrix((votes.scores[known], (known, votes.labels[known])), shape=(votes.num_masks, count))
    total = (inside @ weight).toarray()
    return (total / np.maximum(total.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)


def _named(label_votes: NDArray[np.float32], classes: tuple[str, ...]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Classes, and of each part (P,) the one with most votes; what has none of them is ``UNNAMED``."""
    named = label_votes.any(axis=1)
    if classes and named.all():
        return classes, label_votes.argmax(axis=1)
    classes = tuple(dict.fromkeys((*classes, UNNAMED)))
    return classes, np.where(named, label_votes.argmax(axis=1), classes.index(UNNAMED))


def _best_frames(inside: csr_matrix, votes: Votes) -> NDArray[np.int64]:
    """Rows of the frames (P, 5) whose masks hold most of a part, -1 where there are fewer."""
    by_frame = (inside @ votes.frames).toarray()
    count = min(BEST_FRAMES, by_frame.shape[1])
    order = np.argsort(-by_frame, axis=1, kind="stable")[:, :count]
    best = np.full((len(order), BEST_FRAMES), -1)
    best[:, :count] = np.where(np.take_along_axis(by_frame, order, axis=1) > 0, order, -1)
    return best


def _not_contained(masks: csr_matrix, sizes: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Rows, best score first, of which no better one holds more than ``share``."""
    weighted = csr_matrix((sizes[masks.indices], masks.indices, masks.indptr), shape=masks.shape)
    common = (weighted @ masks.T).tocoo()
    within = (common.col < common.row) & (common.data > share * np.maximum(masks @ sizes, 1)[common.row])
    order = np.argsort(common.row[within], kind="stable")
    kept = np.ones(masks.shape[0], bool)
    for row, better in zip(common.row[within][order].tolist(), common.col[within][order].tolist()):
        if kept[better]:
            kept[row] = False
    return np.flatnonzero(kept)
