"""Entries of sparse matrices in compressed rows, whose columns are sorted and unique in each row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

_TABLE = 16     # entries of a table of all places, for each that is looked up or held


def one_per_row(columns: NDArray[np.integer], count: int) -> csr_matrix:
    """A one (int32) in each row (R, ``count``), at the column (R,) given for it."""
    return csr_matrix((np.ones(len(columns), np.int32), columns, np.arange(len(columns) + 1)), shape=(len(columns), count))


def ones_at(rows: NDArray[Any], columns: NDArray[np.integer], shape: tuple[int, int]) -> csr_matrix:
    """Ones (int32) at some rows, which ascend, and columns."""
    return csr_matrix((np.ones(len(rows), np.int32), columns, np.searchsorted(rows, np.arange(shape[0] + 1))), shape=shape)


def rows_of(matrix: csr_matrix) -> NDArray[np.int64]:
    """Row of each entry of a sparse matrix."""
    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def find(matrix: csr_matrix, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.integer]:
    """Places of entries in the data of a sparse matrix with sorted, unique columns, -1 where there is none."""
    numbers = np.arange(1, matrix.nnz + 1, dtype=np.int32)
    return lookup(csr_matrix((numbers, matrix.indices, matrix.indptr), shape=matrix.shape), rows, columns) - 1


def lookup(matrix: csr_matrix, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
    """Entries of a sparse matrix with sorted, unique columns, 0 where there is none."""
    height, width = matrix.shape
    wanted = np.asarray(rows, dtype=np.int64) * width + columns
    if not matrix.nnz:
        return np.zeros(len(wanted), matrix.dtype)
    if height * width <= _TABLE * (matrix.nnz + len(wanted)):     # a table costs less than searching
        return matrix.toarray().ravel().take(wanted)
    keys = rows_of(matrix) * width + matrix.indices
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, matrix.data[place], matrix.dtype.type(0))


def keep(matrix: csr_matrix, entries: NDArray[np.bool_], *, dtype: Any = bool) -> csr_matrix:
    """The pattern of the chosen entries of a sparse matrix, as ones."""
    chosen = np.concatenate([[0], np.cumsum(entries)])
    return csr_matrix((np.ones(int(chosen[-1]), dtype), matrix.indices[entries], chosen[matrix.indptr]), shape=matrix.shape)
