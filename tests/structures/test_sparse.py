"""Entries of sparse rows are found by a table or by searching, the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array

from pc3d.structures import sparse


@pytest.mark.parametrize(("height", "width", "density"), [(40, 30, 0.3), (40, 3000, 0.001), (1, 5, 1.0)])
def test_a_table_and_a_search_find_the_same_entries(height, width, density, monkeypatch):
    rng = np.random.default_rng(0)
    matrix = csr_matrix(random_array((height, width), density=density, rng=rng))
    matrix.sort_indices()
    rows, columns = rng.integers(0, height, 500), rng.integers(0, width, 500)
    found = {}
    for share in (0, 10**6):
        monkeypatch.setattr(sparse, "_TABLE", share)
        found[share] = sparse.find(matrix, rows, columns)
    assert np.array_equal(found[0], found[10**6])
    place = found[0]
    assert np.array_equal(np.where(place >= 0, matrix.data[place], 0), matrix.toarray()[rows, columns])
    assert np.array_equal(sparse.lookup(matrix, rows, columns), matrix.toarray()[rows, columns])


def test_nothing_is_found_where_there_is_nothing():
    none = csr_matrix((3, 4))
    assert sparse.find(none, np.array([0, 2]), np.array([1, 3])).tolist() == [-1, -1]
    assert sparse.find(csr_matrix(np.eye(3)), np.zeros(0, int), np.zeros(0, int)).tolist() == []


def test_ones_stand_at_rows_that_ascend():
    rows, columns = np.array([0, 0, 3]), np.array([1, 4, 0])
    expected = np.zeros((5, 6), int)
    expected[rows, columns] = 1
    assert np.array_equal(sparse.ones_at(rows, columns, (5, 6)).toarray(), expected)
    assert sparse.ones_at(rows[:0], columns[:0], (2, 3)).shape == (2, 3)
