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


def rows_of(matrix: csr_matrix) -> NDArray[np.int64]:
    """Row of each entry of a sparse matrix."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def find(matrix: csr_matrix, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.int64]:
    """Places of entries in the data of a sparse matrix with sorted, unique columns, -1 where there is none."""
    width = matrix.shape[1]
    keys = rows_of(matrix) * width + matrix.indices
    wanted = np.asarray(rows, dtype=np.int64) * width + columns
    if not len(keys):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def lookup(matrix: csr_matrix, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
    """Entries of a sparse matrix with sorted, unique columns, 0 where there is none."""
    place = find(matrix, rows, columns)
    return np.where(place >= 0, np.append(matrix.data, matrix.dtype.type(0))[place], 0)


def keep(matrix: csr_matrix, entries: NDArray[np.bool_], *, dtype: Any = bool) -> csr_matrix:
    """The pattern of the chosen entries of a sparse matrix, as ones."""
    chosen = np.concatenate([[0], np.cumsum(entries)])
    return csr_matrix((np.ones(int(chosen[-1]), dtype), matrix.indices[entries], chosen[matrix.indptr]), shape=matrix.shape)


def from_entries(row: NDArray[Any], column: NDArray[Any], count: NDArray[Any], shape: tuple[int, int]) -> csr_matrix:
    """A sparse matrix (int32) of entries whose rows ascend in each column: by columns first, which needs no comparing."""
    by_column = csr_matrix((count.astype(np.int32), (column, row.astype(np.int32))), shape=shape[::-1])
    return by_column.T.tocsr()


def rows_for_op(matrix: csr_matrix) -> SparseRows:
    """A sparse matrix as the ops take it."""
    entries = (torch.from_numpy(one.astype(np.int32, copy=False)) for one in (matrix.indices, matrix.data))
    return SparseRows(torch.from_numpy(matrix.indptr.astype(np.int64)), *entries)
