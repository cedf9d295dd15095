"""Region growing over superpoint affinities (SAI3D, CVPR 2024): superpoints that share masks grow together."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array, vstack

from pc3d.lift.config import LiftConfig
from pc3d.lift.methods.groups import Groups, join_tracks, seen_in
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes
from pc3d.ops import grow_regions, row_dots
from pc3d.structures.sparse import find, lookup, rows_of


def region(votes: Votes, scan: LiftScan, config: LiftConfig) -> Groups:
    """Grow regions from superpoints in rounds of falling affinity; masks are of the object whose region holds most of them."""
    links = scan.links(config.link_distance)
    region_of = np.arange(len(votes.sizes))
    for threshold in config.region_thresholds:
        alike = affinity(votes, links_of_regions(links, region_of), region_of)
        starts, neighbors, values, sizes = (torch.from_numpy(one) for one in (
            alike.indptr.astype(np.int64), alike.indices.astype(np.int32), alike.data, sizes_of(votes, region_of)))
        region_of = grow_regions(starts, neighbors, values, sizes, threshold, config.region_hop_weight).numpy()[region_of]
    return join_tracks(_groups(votes, region_of, config), votes, config)


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
    graph = (to.T @ links @ to).tocoo()
    apart = graph.row != graph.col
    return _sorted(csr_matrix((graph.data[apart], (graph.row[apart], graph.col[apart])), shape=graph.shape))


def affinity(votes: Votes, touching: csr_matrix, region_of: NDArray[np.int64]) -> csr_matrix:
    """Similarity in [0, 1] of regions that touch (R, R): cosine of their histograms over masks, weighted by how well seen.

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
    row, column = rows_of(touching), touching.indices
    one, other = row[row < column], column[row < column]                # both ways it is the same
    alike, weight = (_dots(matrix, one, other) for matrix in (unit, seen.tocsr()))
    value = np.where(weight > 0, alike / np.maximum(weight, 1e-12), 0)
    place = find(touching, other, one)
    both = np.empty(touching.nnz)
    both[row < column], both[place] = value, value
    return csr_matrix((both, touching.indices, touching.indptr), shape=touching.shape)


def _with_unlabelled(votes: Votes, to: csr_matrix) -> tuple[csr_matrix, NDArray[np.int64]]:
    """Counts of masks over regions (M + F, R), below them what each frame sees outside all masks; and the frame of a row."""
    counts = (votes.counts @ to).tocsr()
    rest = ((votes.visible @ to) - votes.frames.T @ counts).tocsr()
    rest.data = np.maximum(rest.data, 0)         # overlapping masks can label more than is seen
    rest.eliminate_zeros()
    together = vstack([counts, rest], format="csr").astype(np.float64)
    return _sorted(together), np.concatenate([votes.frame_of_mask, np.arange(votes.num_frames)])


def _sorted(matrix: csr_matrix) -> csr_matrix:
    matrix.sort_indices()
    return matrix


def _dots(matrix: csr_matrix, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float64]:
    """Inner product of two columns for each pair."""
    columns = matrix.T.tocsr()
    starts, entries, one, other = (torch.from_numpy(of.astype(dtype, copy=False)) for of, dtype in (
        (columns.indptr, np.int64), (columns.indices, np.int32), (first, np.int64), (second, np.int64)))
    return row_dots(starts, entries, torch.from_numpy(columns.data), columns.shape[1], one, other).numpy()


def _groups(votes: Votes, region_of: NDArray[np.int64], config: LiftConfig) -> Groups:
    """Regions with the masks that lie mostly in them; regions without masks are nothing.

    A region only says which masks are of one object: its points are those that these masks hold, so that a superpoint that
    two objects share is cut, and what a region grew too far over a border drops out.
    """
    inside = (votes.counts @ _to_regions(region_of)).tocsr()
    row = rows_of(inside)
    mostly = inside.data > config.region_mask_share * votes.points[row]
    spoken, group = np.unique(inside.indices[mostly], return_inverse=True)
    group_of_mask = np.full(votes.num_masks, -1, np.int64)
    group_of_mask[row[mostly]] = group.reshape(-1)
    own = np.bincount(group.reshape(-1), inside.data[mostly])
    agreement = own / np.bincount(inside.indices, inside.data)[spoken]
    return Groups(group_of_mask, seen_in(group_of_mask, votes), agreement)
