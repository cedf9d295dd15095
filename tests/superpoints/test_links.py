"""What lies near each other hangs together."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist

from pc3d.superpoints.links import split_at_gaps, superpoint_links


@pytest.mark.parametrize("seed", range(5))
def test_links_are_sure_within_half_the_distance_and_never_beyond_1_8_of_it(seed):
    rng = np.random.default_rng(seed)
    xyz, ids = rng.uniform(-3, 3, (400, 3)).astype(np.float32), np.concatenate([np.arange(80), rng.integers(0, 80, 320)])
    apart = np.array([[cdist(xyz[ids == a], xyz[ids == b]).min() for b in range(80)] for a in range(80)])
    linked = superpoint_links(xyz, ids, 0.4).toarray() > 0
    assert linked[apart <= 0.2].all()
    assert not linked[apart > 1.8 * 0.4].any()
    assert (linked == linked.T).all()


def test_sets_are_cut_where_they_do_not_hang_together():
    chain = np.arange(5, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32)
    sets = csr_matrix(np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1]]))
    whole, parts = split_at_gaps(sets, chain, np.arange(5), 2.0)
    found = sorted((int(row), *np.flatnonzero(part)) for row, part in zip(whole, parts.toarray()))
    assert found == [(0, 0, 1), (0, 3, 4), (1, 1, 2, 3), (3, 0), (3, 4)]


def test_nothing_has_no_links_and_no_parts():
    assert superpoint_links(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), 0.5).shape == (0, 0)
    whole, parts = split_at_gaps(csr_matrix((0, 4), dtype=int), np.zeros((0, 3), np.float32), np.zeros(0, np.int64), 0.5)
    assert (len(whole), parts.shape) == (0, (0, 4))
