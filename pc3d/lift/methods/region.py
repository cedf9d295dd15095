"""Region growing over superpoint affinities (SAI3D, CVPR 2024): superpoints that share masks grow together."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array, vstack

from pc3d.lift.config import LiftConfig
from pc3d.lift.methods.groups import Groups
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes
from pc3d.structures.sparse import lookup


def region(votes: Votes, scan: LiftScan, config: LiftConfig) -> Groups:
    """Grow regions from superpoints in rounds of falling affinity; masks go to the region that holds most of them."""
    links = scan.links(config.link_distance)
    region_of = np.arange(len(votes.sizes))
    for threshold in config.region_thresholds:
        number = grow(affinity(votes, links, region_of), links_of_regions(links, region_of), sizes_of(votes, region_of),
                      threshold, config.region_hop_weight)
        region_of = number[region_of]
    return _groups(votes, region_of, config)


def sizes_of(votes: Votes, region_of: NDArray[np.int64]) -> NDArray[np.float64]:
    """Points of each region (R,)."""
    return np.bincount(region_of, votes.sizes).astype(np.float64)


def _to_regions(region_of: NDArray[np.int64]) -> csr_matrix:
    """(S, R) ones."""
    count = len(region_of)
    return csr_matrix((np.ones(count, np.int32), region_of, np.arange(count + 1)), shape=(count, int(region_of.max()) + 1))


def links_of_regions(links: csr_matrix, region_of: NDArray[np.int64]) -> csr_matrix:
    """Which regions touch (R, R), without themselves."""
    to = _to_regions(region_of)
    graph = (to.T @ links @ to).tolil()
    graph.setdiag(0)
    graph = graph.tocsr()
    graph.eliminate_zeros()
    graph.sort_indices()
    return graph


def affinity(votes: Votes, links: csr_matrix, region_of: NDArray[np.int64]) -> csr_matrix:
    """Similarity in [0, 1] of touching regions (R, R): cosine of their histograms over masks, weighted by how well seen.

    A_ij = sum_f c_if c_jf cos(h_if, h_jf) / sum_f c_if c_jf with h the points of a region in the masks of frame f and
    c the share of the region's points that the frame sees (SAI3D, equations 2 to 4). What a frame sees and does not label
    is a mask of its own here: otherwise a wall, of which a few points strayed into the mask of a picture, would be as
    much picture as the picture.
    """
    to = _to_regions(region_of)
    counts, frame_of_row = _with_unlabelled(votes, to)
    frames = csr_matrix((np.ones(len(frame_of_row)), (frame_of_row, np.arange(len(frame_of_row)))),
                        shape=(votes.num_frames, len(frame_of_row)))
    seen = (votes.visible @ to).tocsr() @ diags_array(1 / np.maximum(sizes_of(votes, region_of), 1))   # (F, R) c
    norm = np.sqrt((frames @ counts.power(2)).tocsr())
    row = np.repeat(frame_of_row, np.diff(counts.indptr))
    unit = csr_matrix((counts.data / lookup(_sorted(norm), row, counts.indices)
                       * lookup(_sorted(seen.tocsr()), row, counts.indices), counts.indices, counts.indptr), shape=counts.shape)
    graph = links_of_regions(links, region_of).tocoo()
    alike = _dots(unit, graph.row, graph.col)
    weight = _dots(seen.tocsr(), graph.row, graph.col)
    value = np.where(weight > 0, alike / np.maximum(weight, 1e-12), 0)
    return csr_matrix((value, (graph.row, graph.col)), shape=graph.shape)


def _with_unlabelled(votes: Votes, to: csr_matrix) -> tuple[csr_matrix, NDArray[np.int64]]:
    """Counts of masks over regions (M + F, R), below them what each frame sees outside all masks; and the frame of a row."""
    counts = (votes.counts @ to).tocsr()
    frames = csr_matrix((np.ones(votes.num_masks, np.int32), (votes.frame_of_mask, np.arange(votes.num_masks))),
                        shape=(votes.num_frames, votes.num_masks))
    rest = ((votes.visible @ to) - frames @ counts).tocsr()
    rest.data = np.maximum(rest.data, 0)         # overlapping masks can label more than is seen
    rest.eliminate_zeros()
    together = vstack([counts, rest], format="csr").astype(np.float64)
    return _sorted(together), np.concatenate([votes.frame_of_mask, np.arange(votes.num_frames)])


def _sorted(matrix: csr_matrix) -> csr_matrix:
    matrix.sort_indices()
    return matrix


def _dots(matrix: csr_matrix, first: NDArray[np.int32], second: NDArray[np.int32]) -> NDArray[np.float64]:
    """Inner product of two columns for each pair, a slice of pairs at a time."""
    columns = matrix.T.tocsr()
    result = np.empty(len(first))
    for start in range(0, len(first), 4096):
        part = slice(start, start + 4096)
        result[part] = np.asarray(columns[first[part]].multiply(columns[second[part]]).sum(axis=1)).reshape(-1)
    return result


def grow(alike: csr_matrix, links: csr_matrix, sizes: NDArray[np.float64], threshold: float, hop: float) -> NDArray[np.int64]:
    """Number (R,) of the grown region of each region.

    From each region without a number, breadth first: a neighbour joins where its affinity to the members it touches, and
    with weight ``hop`` to the members it touches through another, weighted by their points, reaches the threshold.
    """
    count = len(sizes)
    number = np.full(count, -1, np.int64)
    near = [links.indices[links.indptr[i]:links.indptr[i + 1]] for i in range(count)]
    value = [dict(zip(alike.indices[alike.indptr[i]:alike.indptr[i + 1]].tolist(),
                      alike.data[alike.indptr[i]:alike.indptr[i + 1]].tolist())) for i in range(count)]
    new = 0
    for seed in range(count):
        if number[seed] >= 0:
            continue
        number[seed] = new
        queue = deque([seed])
        while queue:
            for other in near[queue.popleft()].tolist():
                if number[other] < 0 and _score(other, new, number, near, value, sizes, hop) >= threshold:
                    number[other] = new
                    queue.append(other)
        new += 1
    return number


def _score(node: int, group: int, number: NDArray[np.int64], near: list, value: list, sizes: NDArray[np.float64],
           hop: float) -> float:
    """Affinity of a node to the members of a group it touches, and to their neighbours in the group by two steps."""
    direct = near[node][number[near[node]] == group]
    weight = sizes[direct].sum()
    total = sum(sizes[k] * value[node].get(k, 0.0) for k in direct.tolist())
    touched = set(direct.tolist())
    for middle in direct.tolist():
        for k in near[middle][number[near[middle]] == group].tolist():
            if k not in touched and k != node:
                touched.add(k)
                through = value[node].get(middle, 0.0) * value[middle].get(k, 0.0)
                total += hop * sizes[k] * through
                weight += hop * sizes[k]
    return float(total / weight) if weight else 0.0


def _groups(votes: Votes, region_of: NDArray[np.int64], config: LiftConfig) -> Groups:
    """Regions with the masks that lie mostly in them; regions without masks are nothing."""
    to = _to_regions(region_of)
    inside = (votes.counts @ to).tocsr()
    inside.sort_indices()
    total = np.asarray(votes.counts.sum(axis=1)).reshape(-1)
    row = np.repeat(np.arange(votes.num_masks), np.diff(inside.indptr))
    mostly = inside.data > config.region_mask_share * total[row]
    group_of_mask = np.full(votes.num_masks, -1, np.int64)
    group_of_mask[row[mostly]] = inside.indices[mostly]
    seen = votes.visible @ to                                  # (F, R)
    labelled = (csr_matrix((np.ones(votes.num_masks, np.int32), votes.frame_of_mask, np.arange(votes.num_masks + 1)),
                           shape=(votes.num_masks, votes.num_frames)).T @ inside).tocsr()
    own = np.bincount(group_of_mask[group_of_mask >= 0], inside.data[mostly], to.shape[1])
    share = own / np.maximum(np.asarray(labelled.sum(axis=0)).reshape(-1), 1)
    spoken = np.bincount(group_of_mask[group_of_mask >= 0], minlength=to.shape[1]) > 0
    extent = csr_matrix(to.T.multiply(spoken[:, None]))
    extent.eliminate_zeros()
    return Groups(group_of_mask, (seen.T.tocsr() > 0), np.minimum(share, 1), extent)
