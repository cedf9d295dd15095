"""What all frames say about a scan: how many points of each superpoint every mask holds, and every frame sees. All sparse."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pc3d.lift.config import LiftConfig
from pc3d.ops import SparseRows
from pc3d.structures.sparse import keep, lookup, rows_of


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
    def visible_to_mask(self) -> NDArray[np.int32]:
        """Visible points, in the mask's frame, of the superpoint of each entry of ``counts``."""
        return lookup(self.visible, self.frame_of_mask[rows_of(self.counts)], self.counts.indices)

    def members(self, config: LiftConfig) -> csr_matrix:
        """Which superpoints a mask holds (M, S) bool: enough of them seen, and enough of what is seen inside."""
        counts, seen = self.counts, self.visible_to_mask
        held = (counts.data >= config.member_share * seen) & (seen >= config.member_visible * self.sizes[counts.indices])
        return keep(counts, held, dtype=np.int32)


def from_entries(row: NDArray[Any], column: NDArray[Any], count: NDArray[Any], shape: tuple[int, int]) -> csr_matrix:
    """A sparse matrix (int32) of entries whose rows ascend in each column: by columns first, which needs no comparing."""
    by_column = csr_matrix((count.astype(np.int32), (column, row.astype(np.int32))), shape=shape[::-1])
    return by_column.T.tocsr()


def rows_for_op(matrix: csr_matrix) -> SparseRows:
    """A sparse matrix as the ops take it."""
    entries = (torch.from_numpy(one.astype(np.int32, copy=False)) for one in (matrix.indices, matrix.data))
    return SparseRows(torch.from_numpy(matrix.indptr.astype(np.int64)), *entries)
