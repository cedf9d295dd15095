"""grid_parts cuts sets where its torch reference cuts them, and where a look says."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import grid_parts
from pc3d.ops._library import has_kernel
from pc3d.ops.grid_parts import _reference
from tests.ops.test_grid_links import drawn
from tests.ops.test_mask_testimony import sparse


def sets_of(seed: int, segments: int, sets: int = 30):
    """Sets of a third of the segments, none of them in the last."""
    members = torch.rand(sets, segments, generator=torch.Generator().manual_seed(seed)) < 1 / 3
    members[-1] = False
    return sparse(members)[:2]


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_cuts_where_the_reference_cuts(seed):
    assert has_kernel("grid_parts")
    xyz, segment, count = drawn(seed, 300, 200, 3.0)
    given = xyz, segment, *sets_of(seed, count), count, 0.4
    expected = _reference(*given)
    assert 300 < expected.max() < 0.75 * len(expected)
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        assert torch.equal(grid_parts(*given), expected)
    torch.set_num_threads(threads)


def test_a_set_is_cut_where_what_links_it_is_not_in_it():
    """A row of five points: all of it, without the middle, and its ends and middle; the sixth segment has no points."""
    xyz = torch.arange(5.0) * torch.tensor([[1.0], [0], [0]])
    sets = sparse(torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]]))[:2]
    assert grid_parts(xyz, torch.arange(5), *sets, 6, 1.0).tolist() == [0] * 5 + [1, 1, 2, 2, 3] + [4, 5, 6]


def test_segments_that_share_a_cube_or_meet_through_a_third_hang_together():
    xyz = torch.tensor([[0.5, 0.6, 1.5, 2.5, 9.0]]) * torch.tensor([[1.0], [0], [0]])
    segment = torch.tensor([0, 1, 2, 3, 0])
    sets = sparse(torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]]))[:2]
    assert grid_parts(xyz, segment, *sets, 4, 1.0).tolist() == [0, 0] + [1] * 4 + [2, 3]


def test_no_sets_have_no_parts():
    none = sparse(torch.zeros(0, 4))[:2]
    assert grid_parts(torch.zeros(3, 0), torch.zeros(0, dtype=torch.int64), *none, 4, 1.0).tolist() == []


def test_arguments_that_do_not_fit_are_refused():
    xyz, segment, count = drawn(0, 300, 200, 3.0)
    starts, members = sets_of(0, count)
    for sets, message in (((starts, members + 1), "an entry is out of range"), ((starts, members[1:]), "starts do not fit")):
        with pytest.raises(ValueError, match=message):
            grid_parts(xyz, segment, *sets, count, 0.2)
    with pytest.raises(ValueError, match="grid_parts: xyz must be"):
        grid_parts(xyz.T, segment, starts, members, count, 0.2)
