"""dense_ids against np.unique."""

import numpy as np
import pytest

from pc3d.structures.ids import dense_ids


@pytest.mark.parametrize("ids", [[], [5], [3, 3, -1, 7, 3], [-100, 7, 0, -100], [0, 2**62, 1], [-(2**62), 2**62]])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_dense_ids_are_those_of_unique(ids, dtype):
    if ids and (min(ids) < np.iinfo(dtype).min or max(ids) > np.iinfo(dtype).max):
        ids = [abs(value) % 100 for value in ids]
    array = np.array(ids, dtype=dtype)
    known, dense = dense_ids(array)
    expected, place = np.unique(array, return_inverse=True)
    assert known.tolist() == expected.tolist()
    assert dense.tolist() == place.reshape(-1).tolist()
    assert known.dtype == dense.dtype == np.int64


def test_ids_at_both_ends_of_a_small_type_do_not_wrap():
    assert dense_ids(np.array([-128, 127, 0], dtype=np.int8))[1].tolist() == [0, 2, 1]
