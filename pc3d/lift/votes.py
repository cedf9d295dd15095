"""What all frames say about a scan: how many points of each superpoint every mask holds, and every frame sees. All sparse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pc3d.errors import DataError, explain
from pc3d.lift.config import LiftConfig
from pc3d.lift.pieces import Pieces
from pc3d.ops import SparseRows, piece_sums, row_dots
from pc3d.structures import Instances
from pc3d.structures.sparse import lookup, one_per_row


@dataclass(frozen=True, eq=False)
class Torn:
    """Superpoints that lie partly in the masks of G sets."""

    pairs: csr_matrix               # (G, S) ones where a set tears a superpoint
    hits: NDArray[Any]              # (nnz,) points in the set's masks, over all frames
    seen: NDArray[Any]              # (nnz,) visible points in the set's frames, more than 0


@dataclass(frozen=True, eq=False)
class Votes:
    """Counts of M masks in F frames over S superpoints; adding a frame only adds rows."""

    counts: csr_matrix              # (M, S) int32 visible points of a superpoint inside a mask
    visible: csr_matrix             # (F, S) int32 visible points of a superpoint in a frame
    frame_of_mask: NDArray[np.int64]    # (M,)
    scores: NDArray[np.float32]     # (M,) of the 2D model
    labels: NDArray[np.int64]       # (M,) index into classes, -1 for none
    tracks: NDArray[np.int64]       # (M,) -1 for none
    sizes: NDArray[np.int64]        # (S,) points of a superpoint
    pieces: Pieces                  # K pieces of the superpoints, and the same counts of them, but only
    piece_counts: csr_matrix        # (M, K) int32 where a mask of the frame cuts the superpoint
    piece_visible: csr_matrix       # (F, K) int32 there
    classes: tuple[str, ...]
    frame_names: tuple[str, ...]

    @property
    def num_masks(self) -> int:
        """M."""
        return len(self.scores)

    @property
    def num_frames(self) -> int:
        """F."""
        return len(self.frame_names)

    @property
    def num_empty(self) -> int:
        """Frames without masks."""
        return self.num_frames - len(np.unique(self.frame_of_mask))

    @cached_property
    def points(self) -> NDArray[np.int64]:
        """Visible points (M,) in each mask."""
        return np.asarray(self.counts.sum(axis=1)).reshape(-1)

    @cached_property
    def frames(self) -> csr_matrix:
        """(M, F) ones where a mask is of a frame."""
        count = self.num_masks
        return csr_matrix((np.ones(count, np.int32), self.frame_of_mask, np.arange(count + 1)), shape=(count, self.num_frames))

    @cached_property
    def visible_to_mask(self) -> NDArray[np.int32]:
        """Visible points, in the mask's frame, of the superpoint of each entry of ``counts``."""
        return lookup(self.visible, np.repeat(self.frame_of_mask, np.diff(self.counts.indptr)), self.counts.indices)

    def seen(self, of_frames: csr_matrix, pairs: csr_matrix) -> NDArray[np.int64]:
        """Visible points (E,), over the frames of each set (G, F), of the superpoints that it is paired with (G, S)."""
        each = torch.arange(pairs.shape[1])
        sets, counts, pairs = (rows_for_op(one) for one in (of_frames, self.visible, pairs))
        return piece_sums(sets, counts, pairs, each, torch.ones_like(each)).numpy()

    def trust(self, sure: float) -> float:
        """How far the masks are to be believed, in (0, 1]: their mean score, against that of a model that is ``sure``."""
        return min(1.0, max(0.01, float(self.scores.mean()) / sure)) if self.num_masks else 1.0

    def ratios(self, torn: Torn, of_masks: csr_matrix, of_frames: csr_matrix, prior: float,
               sure: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of all pieces of the superpoints that sets tear: the share of its sightings inside, and its sightings, both (E,).

        Sets of masks (G, M) and of frames (G, F), as ones. Where no mask cuts a superpoint its counts are spread evenly. The
        share is drawn towards that of the superpoint, which counts for ``prior`` views; for more where masks are not ``sure``.
        """
        pieces, pair = self.pieces, np.repeat(np.arange(len(torn.hits)), self.pieces.count[torn.pairs.indices])
        piece = pieces.fan_out(torn.pairs.indices)

        def by_piece(sets: csr_matrix, counts: csr_matrix, of_superpoint: NDArray[Any]) -> NDArray[np.float64]:
            known = piece_sums(rows_for_op(sets), rows_for_op(counts), rows_for_op(torn.pairs), torch.from_numpy(pieces.first),
                               torch.from_numpy(pieces.count)).numpy()
            return known + (of_superpoint - np.bincount(pair, known, len(torn.hits)))[pair] * pieces.share[piece]

        inside, seen = by_piece(of_masks, self.piece_counts, torn.hits), by_piece(of_frames, self.piece_visible, torn.seen)
        drawn = prior / self.trust(sure) ** 4 * pieces.sizes[piece]
        return (inside + drawn * (torn.hits / torn.seen)[pair]) / (seen + drawn), seen

    def on(self, segment: NDArray[np.int64], count: int) -> Votes:
        """The same of other segments than the superpoints, made of pieces: the segment of each piece (K,), and how many."""
        pieces = self.pieces
        to = one_per_row(segment, count)
        evenly = (pieces.to_superpoint.multiply(pieces.share[:, None]).T @ to).tocsr().astype(np.float32)   # (S, segments)

        def moved(whole: csr_matrix, known: csr_matrix) -> csr_matrix:
            return ((whole - known @ pieces.to_superpoint) @ evenly + known @ to).tocsr()
        return replace(self, counts=moved(self.counts, self.piece_counts), visible=moved(self.visible, self.piece_visible),
                       sizes=np.bincount(segment, pieces.sizes, count).astype(np.int64))

    def held(self, instances: Instances) -> NDArray[np.float32]:
        """Share (I, S) of each superpoint's points that instances hold, of the same scan."""
        inside = instances.segment_masks[:, self.segment_of_piece(instances)]
        return (inside * self.pieces.share.astype(np.float32)) @ self.pieces.to_superpoint

    def segment_of_piece(self, instances: Instances) -> NDArray[np.int64]:
        """Segment (K,) of instances, of the same scan, that each piece lies in; raises DataError for those without segments."""
        if instances.point_to_superpoint is None:
            raise DataError(explain("the instances are not of superpoints", got=f"{instances.num_segments} points"))
        return instances.point_to_superpoint[self.pieces.point]

    def is_member(self, config: LiftConfig) -> NDArray[np.bool_]:
        """Which entries of ``counts`` (E,) a mask holds: enough of the superpoint is seen, and enough of that is inside."""
        counts, seen = self.counts, self.visible_to_mask
        least = (config.member_visible * self.sizes).take(counts.indices)
        return (counts.data >= config.member_share * seen) & (seen >= least)


def rows_for_op(matrix: csr_matrix) -> SparseRows:
    """A sparse matrix as the ops take it."""
    entries = (torch.from_numpy(one.astype(np.int32, copy=False)) for one in (matrix.indices, matrix.data))
    return SparseRows(torch.from_numpy(matrix.indptr.astype(np.int64)), *entries)


def dots(matrix: csr_matrix, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float64]:
    """Inner products (P,) of pairs of rows of a sparse matrix, fastest where pairs of one first row follow each other."""
    starts, columns, one, other = (torch.from_numpy(of.astype(dtype, copy=False)) for of, dtype in (
        (matrix.indptr, np.int64), (matrix.indices, np.int32), (first, np.int64), (second, np.int64)))
    values = torch.from_numpy(matrix.data.astype(np.float64, copy=False))
    return row_dots(starts, columns, values, matrix.shape[1], one, other).numpy()
