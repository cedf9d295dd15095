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
    return _values_at(matrix, rows, columns, np.arange(matrix.nnz, dtype=np.int32), -1)


def lookup(matrix: csr_matrix, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
    """Entries of a sparse matrix with sorted, unique columns, 0 where there is none."""
    return _values_at(matrix, rows, columns, matrix.data, 0)


def _values_at(matrix: csr_matrix, rows: NDArray[Any], columns: NDArray[Any], values: NDArray[Any], none: int) -> NDArray[Any]:
    """Of values of all entries, those at some rows and columns."""
    height, width = matrix.shape
    keys = rows_of(matrix) * width + matrix.indices
    wanted = np.asarray(rows, dtype=np.int64) * width + columns
    if not len(keys):
        return np.full(len(wanted), none, values.dtype)
    if height * width <= _TABLE * (len(keys) + len(wanted)):     # a table costs less than searching
        table = np.full(height * width, none, values.dtype)
        table[keys] = values
        return table[wanted]
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], values.dtype.type(none))


def keep(matrix: csr_matrix, entries: NDArray[np.bool_], *, dtype: Any = bool) -> csr_matrix:
    """The pattern of the chosen entries of a sparse matrix, as ones."""
    chosen = np.concatenate([[0], np.cumsum(entries)])
    return csr_matrix((np.ones(int(chosen[-1]), dtype), matrix.indices[entries], chosen[matrix.indptr]), shape=matrix.shape)
