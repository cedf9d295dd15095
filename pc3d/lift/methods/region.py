"""Region growing over superpoint affinities (SAI3D, CVPR 2024): superpoints that share masks grow together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags_array, vstack

from pc3d.lift.config import LiftConfig
from pc3d.lift.methods.groups import Groups, join_tracks, seen_in
from pc3d.lift.scan import LiftScan
from pc3d.lift.votes import Votes, dots
from pc3d.ops import grow_regions
from pc3d.structures.sparse import find, lookup, one_per_row, rows_of


@dataclass(frozen=True, eq=False)
class Regions:
    """R regions: superpoints at first, then what grew of them."""

    counts: csr_matrix              # (M, R) int32 visible points in each mask
    visible: csr_matrix             # (F, R) int32 visible points in each frame
    sizes: NDArray[np.int64]        # (R,) points
    links: csr_matrix               # (R, R) which touch, without themselves

    def grown(self, region_of: NDArray[np.int64]) -> Regions:
        """The regions that these are parts of, (R,)."""
        to = one_per_row(region_of, int(region_of.max()) + 1)
        graph = (to.T @ self.links @ to).tocoo()
        apart = graph.row != graph.col
        links = csr_matrix((graph.data[apart], (graph.row[apart], graph.col[apart])), shape=graph.shape)
        return Regions(self.counts @ to, self.visible @ to, np.bincount(region_of, self.sizes).astype(np.int64), _sorted(links))


def region(votes: Votes, scan: LiftScan, config: LiftConfig) -> Groups:
    """Grow regions from superpoints in rounds of falling affinity; masks are of the object whose region holds most of them."""
    regions = Regions(votes.counts, votes.visible, votes.sizes, scan.links(config.link_distance))
    regions = regions.grown(np.arange(len(votes.sizes)))
    for threshold in config.region_thresholds:
        alike = affinity(regions, votes)
        starts, neighbors, values, sizes = (torch.from_numpy(one) for one in (
            alike.indptr.astype(np.int64), alike.indices.astype(np.int32), alike.data, regions.sizes.astype(np.float64)))
        regions = regions.grown(grow_regions(starts, neighbors, values, sizes, threshold, config.region_hop_weight).numpy())
    return join_tracks(_groups(regions, votes, config), votes, config)


def affinity(regions: Regions, votes: Votes) -> csr_matrix:
    """Similarity in [0, 1] of regions that touch (R, R): cosine of their histograms over masks, weighted by how well seen.

    A_ij = sum_f c_if c_jf cos(h_if, h_jf) / sum_f c_if c_jf with h the points of a region in the masks of frame f and
    c the share of the region's points that the frame sees (SAI3D, equations 2 to 4). What a frame sees and does not label
    is a mask of its own here: otherwise a wall, of which a few points strayed into the mask of a picture, would be as
    much picture as the picture.
    """
    counts, frame_of_row = _with_unlabelled(regions, votes)
    frames = csr_matrix((np.ones(len(frame_of_row)), (frame_of_row, np.arange(len(frame_of_row)))),
                        shape=(votes.num_frames, len(frame_of_row)))
    seen = (regions.visible @ diags_array(1 / np.maximum(regions.sizes, 1))).tocsr()    # (F, R) c
    norm = np.sqrt((frames @ counts.power(2)).tocsr())
    row = np.repeat(frame_of_row, np.diff(counts.indptr))
    unit = csr_matrix((counts.data / lookup(_sorted(norm), row, counts.indices) * lookup(_sorted(seen), row, counts.indices),
                       counts.indices, counts.indptr), shape=counts.shape)
    touching = regions.links
    row, column = rows_of(touching), touching.indices
    one, other = row[row < column], column[row < column]                # both ways it is the same
    alike, weight = (dots(matrix.T.tocsr(), one, other) for matrix in (unit, seen))
    value = np.where(weight > 0, alike / np.maximum(weight, 1e-12), 0)
    place = find(touching, other, one)
    both = np.empty(touching.nnz)
    both[row < column], both[place] = value, value
    return csr_matrix((both, touching.indices, touching.indptr), shape=touching.shape)


def _with_unlabelled(regions: Regions, votes: Votes) -> tuple[csr_matrix, NDArray[np.int64]]:
    """Counts of masks over regions (M + F, R), below them what each frame sees outside all masks; and the frame of a row."""
    rest = (regions.visible - votes.frames.T @ regions.counts).tocsr()
    rest.data = np.maximum(rest.data, 0)         # overlapping masks can label more than is seen
    rest.eliminate_zeros()
    together = vstack([regions.counts, rest], format="csr").astype(np.float64)
    return _sorted(together), np.concatenate([votes.frame_of_mask, np.arange(votes.num_frames)])


def _sorted(matrix: csr_matrix) -> csr_matrix:
    matrix.sort_indices()
    return matrix


def _groups(regions: Regions, votes: Votes, config: LiftConfig) -> Groups:
    """Regions with the masks that lie mostly in them; regions without masks are nothing.

    A region only says which masks are of one object: its points are those that these masks hold, so that a superpoint that
    two objects share is cut, and what a region grew too far over a border drops out.
    """
    inside = regions.counts
    row = rows_of(inside)
    mostly = inside.data > config.region_mask_share * votes.points[row]
    spoken, group = np.unique(inside.indices[mostly], return_inverse=True)
    group_of_mask = np.full(votes.num_masks, -1, np.int64)
    group_of_mask[row[mostly]] = group.reshape(-1)
    own = np.bincount(group.reshape(-1), inside.data[mostly])
    agreement = own / np.bincount(inside.indices, inside.data)[spoken]
    return Groups(group_of_mask, seen_in(group_of_mask, votes), agreement)
