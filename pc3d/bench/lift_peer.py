"""Lifting as a careful script does it in numpy and scipy: the peer of ``pc3d bench lift``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pc3d.lift import LiftConfig
from pc3d.lift.methods.groups import Groups, instances_of_parts, membership
from pc3d.lift.pieces import Extent, Pieces
from pc3d.lift.scan import LiftScan
from pc3d.lift.view import pack_camera, pack_pose
from pc3d.lift.votes import Votes
from pc3d.structures import Instances, PointCloud
from pc3d.structures.sparse import keep, rows_of

if TYPE_CHECKING:
    from pc3d.bench.lift import Data

_PERCENTILES = range(95, -1, -5)


def peer_votes(data: Data, pieces: Pieces) -> Votes:
    """The same counts as a careful numpy script takes them: every point into every frame, in float32."""
    config, cloud = LiftConfig(), data.cloud
    x, y, z = np.ascontiguousarray(cloud.xyz.T)
    superpoints = superpoints_of(cloud)
    count = int(superpoints.max()) + 1
    camera = pack_camera(data.frames[0][0].camera).numpy()
    rows: list[tuple] = []
    seen: list[tuple] = []
    piece_rows: list[tuple] = []
    piece_seen: list[tuple] = []
    first = 0
    for index, (frame, masks, depth) in enumerate(data.frames):
        m = pack_pose(frame.T_world_camera, cloud.origin).numpy()
        cam = [((m[i, 0] * x + m[i, 1] * y) + m[i, 2] * z) + m[i, 3] for i in range(3)]
        ahead = np.flatnonzero(cam[2] > np.float32(config.min_depth))
        cx, cy, cz = (axis[ahead] for axis in cam)
        inverse = 1 / cz
        u, v = camera[0] * (cx * inverse) + camera[2], camera[1] * (cy * inverse) + camera[3]
        inside = np.flatnonzero((u >= 0) & (u < 640) & (v >= 0) & (v < 480))
        pixel = v[inside].astype(np.int64) * 640 + u[inside].astype(np.int64)
        d, deep = depth.ravel()[pixel], cz[inside]
        limit = np.maximum(np.float32(config.depth_tolerance_rel) * deep, np.float32(config.depth_tolerance))
        visible = (d > 0) & (np.abs(deep - d) <= limit)
        point = ahead[inside[visible]]
        owner, piece = superpoints[point], pieces.point_to_piece[point]
        ids = masks.ids.ravel()[pixel[visible]].astype(np.int64)
        seen.append((index, *np.unique(owner, return_counts=True)))
        rows.append(_by_mask(ids, owner, first, count))
        cut = _cut(seen[-1], rows[-1], count, config)[owner]
        piece_seen.append((index, *np.unique(piece[cut], return_counts=True)))
        piece_rows.append(_by_mask(ids[cut], piece[cut], first, len(pieces.sizes)))
        first += len(masks)
    counts, piece_counts = _matrix(rows, (first, count)), _matrix(piece_rows, (first, len(pieces.sizes)))
    visible, piece_visible = (_matrix([(np.full(len(where), index), where, number) for index, where, number in parts], shape)
                              for parts, shape in ((seen, (len(seen), count)), (piece_seen, (len(seen), len(pieces.sizes)))))
    lengths = [len(masks) for _, masks, _ in data.frames]
    return Votes(counts, visible, np.repeat(np.arange(len(lengths)), lengths), np.ones(first, np.float32), np.full(first, -1),
                 np.full(first, -1), np.bincount(superpoints, minlength=count), pieces, piece_counts, piece_visible, (),
                 tuple(frame.name for frame, _, _ in data.frames))


def _by_mask(ids: NDArray[np.int64], where: NDArray[np.integer], first: int, count: int) -> tuple:
    """Mask of all frames, place and points of every pair of a mask of this frame, 0 for none, and a place of so many."""
    pairs, counts = np.unique(ids[ids > 0] * count + where[ids > 0], return_counts=True)
    return first + pairs // count - 1, pairs % count, counts


def _cut(seen: tuple, rows: tuple, count: int, config: LiftConfig) -> NDArray[np.bool_]:
    """Superpoints (S,) that a mask of a frame cuts."""
    visible, cut = np.zeros(count, np.int64), np.zeros(count, bool)
    visible[seen[1]] = seen[2]
    of = visible[rows[1]]
    low = np.float32(config.cut_share) * of.astype(np.float32)
    cut[rows[1][(rows[2] > low) & (rows[2] < of - low) & (of >= config.cut_points)]] = True
    return cut


def _matrix(parts: list, shape: tuple[int, int]) -> csr_matrix:
    row, column, value = (np.concatenate(one).astype(np.int32) for one in zip(*parts))
    return csr_matrix((value, (row, column)), shape=shape)


def superpoints_of(cloud: PointCloud) -> NDArray[np.int64]:
    """The superpoints that ``make_data`` computed."""
    assert cloud.superpoints is not None
    return cloud.superpoints


@dataclass(frozen=True, eq=False)
class Testimony:
    """What every frame says of every mask: which of its own masks holds it whole, if one does."""

    contained: csr_matrix               # (M, M) bool: row lies in column
    observed: csr_matrix                # (M, F) bool: frames where it lies in one mask
    spoke: NDArray[np.int64]            # (M,) frames that saw enough of it, whether they hold it whole or split it
    undersegmented: NDArray[np.bool_]   # (M,) split too often: it holds several objects


def peer_consensus(votes: Votes, config: LiftConfig) -> Groups:
    """The same groups as ``pc3d.lift.methods.consensus``, by sparse products of scipy and whole arrays of numpy."""
    heard = testimony(votes, config)
    group_of_mask, observed = cluster(heard, config)
    return Groups(group_of_mask, observed, agreement(group_of_mask, heard, observed.shape[0]))


def testimony(votes: Votes, config: LiftConfig) -> Testimony:
    """Ask every frame about every mask; a frame that splits a mask says nothing of what belongs with it.

    Under-segmented masks are no evidence: they neither ask nor hold.
    """
    members = _members(votes, config)
    own = np.asarray(members.multiply(votes.counts).sum(axis=1)).reshape(-1)
    seen = (members @ votes.visible.T).tocsr()           # (M, F) points of the mask's superpoints that a frame sees
    shared = (members @ votes.counts.T).tocsr()          # (M, M) those that lie in a mask of that frame
    row = np.repeat(np.arange(votes.num_masks), np.diff(shared.indptr))
    frame = votes.frame_of_mask[shared.indices]
    labelled = csr_matrix((shared.data, (row, frame)), shape=seen.shape)  # summed over the masks of a frame
    speaks = _speaks(seen, labelled, own, config)
    total = np.minimum(lookup(labelled.tocsr(), row, frame), lookup(seen, row, frame))   # overlapping masks label twice
    holds = (shared.data >= config.contained_share * total) & lookup(speaks, row, frame).astype(bool)
    contained, spoke = keep(shared, holds), np.diff(speaks.indptr)
    whole = np.diff(_frames_of(contained, votes).indptr)
    bad = (spoke - whole > config.undersegment_share * spoke) | (spoke == 0)
    row = np.repeat(np.arange(votes.num_masks), np.diff(contained.indptr))
    contained = keep(contained, ~bad[contained.indices] & ~bad[row])
    return Testimony(contained, _frames_of(contained, votes), spoke, bad)


def _frames_of(contained: csr_matrix, votes: Votes) -> csr_matrix:
    """Frames (M, F) with a mask that holds each mask."""
    count = votes.num_masks
    frames = csr_matrix((np.ones(count, np.int32), votes.frame_of_mask, np.arange(count + 1)), shape=(count, votes.num_frames))
    return _any(contained.astype(np.int32) @ frames)


def _speaks(seen: csr_matrix, labelled: csr_matrix, own: NDArray[np.int64], config: LiftConfig) -> csr_matrix:
    """Frames (M, F) that see enough of a mask, most of it labelled: an unlabelled surface says nothing."""
    seen.sort_indices()
    row = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))
    enough = (seen.data >= config.observed_share * own[row]) & (own[row] >= config.min_mask_points)
    known = lookup(labelled, row, seen.indices) >= 0.5 * seen.data
    return keep(seen, enough & known)


def cluster(heard: Testimony, config: LiftConfig) -> tuple[NDArray[np.int64], csr_matrix]:
    """Merge masks in rounds of falling thresholds on how many frames observe both: groups (M,) and their frames (G, F)."""
    node = np.flatnonzero(~heard.undersegmented)
    group_of_mask = np.full(len(heard.undersegmented), -1, np.int64)
    group_of_mask[node] = np.arange(len(node))
    observed, contained = heard.observed[node].astype(np.int32), heard.contained[node].astype(np.int32)
    pairs = _pairs(observed, contained)
    for threshold in _thresholds(pairs):
        edge = (pairs.observers >= threshold) & (pairs.supporters >= config.consensus_rate * pairs.observers)
        if not edge.any():
            continue
        count = observed.shape[0]
        graph = csr_matrix((np.ones(int(edge.sum()), bool), (pairs.first[edge], pairs.second[edge])), shape=(count, count))
        number, part = connected_components(graph, directed=False)
        merge = csr_matrix((np.ones(count, np.int32), (part, np.arange(count))), shape=(number, count))
        observed, contained = _any(merge @ observed), _any(merge @ contained)
        group_of_mask[group_of_mask >= 0] = part[group_of_mask[group_of_mask >= 0]]
        pairs = _pairs(observed, contained)
    return group_of_mask, observed


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of nodes that some mask holds both of."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    supporters: NDArray[np.int32]   # masks that hold both
    observers: NDArray[np.int64]    # frames that observe both


def _pairs(observed: csr_matrix, contained: csr_matrix) -> Pairs:
    both = (contained @ contained.T).tocoo()
    apart = both.row < both.col
    first, second = both.row[apart], both.col[apart]
    words = np.packbits(np.pad(observed.toarray().astype(bool), ((0, 0), (0, -observed.shape[1] % 64))), axis=1).view(np.uint64)
    observers = np.zeros(len(first), np.int64)
    for word in words.T:
        observers += _bits(word[first] & word[second])
    return Pairs(first, second, both.data[apart], observers)


def _bits(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of ones of each word, by halves; numpy 1 has no bitwise_count."""
    one, two, four, last = (np.uint64(value) for value in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F,
                                                           0x0101010101010101))
    words = words - (words >> np.uint64(1) & one)
    words = (words & two) + (words >> np.uint64(2) & two)
    return ((words + (words >> np.uint64(4)) & four) * last >> np.uint64(56)).astype(np.int64)


def _thresholds(pairs: Pairs) -> list[float]:
    """Percentiles 95, 90, ..., 0 of the positive numbers of common observers, not below 1."""
    counts = pairs.observers[pairs.observers > 0]
    if not len(counts):
        return []
    levels = [max(float(level), 1.0) for level in np.percentile(counts, list(_PERCENTILES))]
    return list(dict.fromkeys(levels))


def _any(matrix: csr_matrix) -> csr_matrix:
    matrix = matrix.tocsr()
    matrix.data = np.minimum(matrix.data, 1)
    return matrix


def agreement(group_of_mask: NDArray[np.int64], heard: Testimony, count: int) -> NDArray[np.float64]:
    """Mean over a group's masks of the share of speaking frames that hold the mask whole (G,)."""
    member = group_of_mask >= 0
    share = np.diff(heard.observed.indptr)[member] / np.maximum(heard.spoke[member], 1)
    return np.bincount(group_of_mask[member], share, count) / np.maximum(np.bincount(group_of_mask[member], minlength=count), 1)


# ------------------------------------------------------------------------------------------------- instances of the groups


def peer_finish(groups: Groups, votes: Votes, scan: LiftScan, config: LiftConfig) -> Instances:
    """What groups hold often enough, cut where it hangs together by no link; scores and labels are the same code."""
    extent = _extent(groups, votes, config)
    links = _links(scan.xyz.numpy(), scan.owner_of_point, len(scan.sizes), config.gap_distance / 2)
    parts = _split(extent.touched(votes.pieces), links)
    return instances_of_parts(groups, membership(groups.group_of_mask, votes), *parts, extent, votes, config)


def _extent(groups: Groups, votes: Votes, config: LiftConfig) -> Extent:
    """Superpoints that groups hold: all or none of them, or where masks tear one, the pieces that they see inside."""
    belongs, observed, pieces = membership(groups.group_of_mask, votes), groups.observed.astype(np.int32), votes.pieces
    hits, total = (belongs @ votes.counts).toarray(), np.maximum((observed @ votes.visible).toarray(), 1)
    share, of = hits / total, pieces.superpoint
    torn = (share > config.cut_share) & (share < 1 - config.cut_share)
    known = [(belongs @ votes.piece_counts).toarray(), (observed @ votes.piece_visible).toarray()]
    inside, seen = (one + (whole - one @ pieces.to_superpoint)[:, of] * pieces.share
                    for one, whole in zip(known, (hits, total)))
    prior = config.cut_prior / votes.trust(config.sure) ** 4 * pieces.sizes
    ratio = (inside + prior * share[:, of]) / (seen + prior)
    whole, cut = (csr_matrix(one, dtype=np.int32) for one in (~torn & (share >= config.detection_share), torn))
    row = np.repeat(rows_of(cut), pieces.count[cut.indices])
    return Extent(whole, cut, ratio[row, pieces.fan_out(cut.indices)] >= config.detection_share)


def _links(xyz: NDArray[np.float32], owner: NDArray[np.int64], count: int, side: float) -> csr_matrix:
    """Pairs of superpoints with points in the same or touching cells of a grid."""
    cell = np.floor((xyz.T - xyz.min(axis=1)) / side).astype(np.int64) + 1
    height, width = int(cell[:, 2].max()) + 2, int(cell[:, 1].max()) + 2
    keys, row = np.unique((cell[:, 0] * width + cell[:, 1]) * height + cell[:, 2], return_inverse=True)
    pattern = np.unique(row.reshape(-1) * count + owner)
    holds = csr_matrix((np.ones(len(pattern), np.int32), (pattern // count, pattern % count)), shape=(len(keys), count))
    links = holds.T @ holds
    for step in ((dx * width + dy) * height + dz for dx in (0, 1) for dy in (-1, 0, 1) for dz in (-1, 0, 1)):
        if step > 0:                                    # its opposite is taken
            place = np.minimum(np.searchsorted(keys, keys + step), len(keys) - 1)
            meets = keys[place] == keys + step
            links = links + holds[meets].T @ holds[place[meets]]
    links = (links + links.T).tocsr()
    links.sort_indices()
    return links


def _split(extent: csr_matrix, links: csr_matrix) -> tuple[NDArray[np.int64], csr_matrix]:
    """Group (P,) and superpoints (P, S) of every part."""
    extent.sort_indices()
    group, entry = rows_of(extent), np.arange(extent.nnz)
    fan = np.diff(links.indptr)[extent.indices]
    first, place = np.repeat(entry, fan), np.arange(fan.sum()) - np.repeat(np.cumsum(fan) - fan, fan)
    neighbor = links.indices[links.indptr[extent.indices][first] + place]
    second = _find(extent, group[first], neighbor)
    graph = csr_matrix((np.ones((second >= 0).sum(), bool), (first[second >= 0], second[second >= 0])), shape=(len(entry),) * 2)
    number, part = connected_components(graph, directed=False)
    group_of_part = np.zeros(number, np.int64)
    group_of_part[part] = group
    return group_of_part, csr_matrix((np.ones(len(entry), np.int32), (part, extent.indices)), shape=(number, extent.shape[1]))


# ------------------------------------------------------------------------------------------------------------- look-ups


def _members(votes: Votes, config: LiftConfig) -> csr_matrix:
    """Which superpoints a mask holds (M, S)."""
    counts = votes.counts
    seen = lookup(votes.visible, votes.frame_of_mask[rows_of(counts)], counts.indices)
    held = (counts.data >= config.member_share * seen) & (seen >= config.member_visible * votes.sizes[counts.indices])
    return keep(counts, held, dtype=np.int32)


def _find(matrix: csr_matrix, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.int64]:
    """Places of entries in a sparse matrix with sorted columns, -1 where there is none: by searching."""
    width = matrix.shape[1]
    keys, wanted = rows_of(matrix) * width + matrix.indices, rows.astype(np.int64) * width + columns
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def lookup(matrix: csr_matrix, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> NDArray[np.integer]:
    """Entries of a sparse matrix with sorted columns, 0 where there is none."""
    place = _find(matrix, rows, columns)
    return np.where(place >= 0, np.append(matrix.data, matrix.dtype.type(0))[place], 0)
