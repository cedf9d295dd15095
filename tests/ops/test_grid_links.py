"""grid_links links what its torch reference links, and what can be linked by hand."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import grid_links
from pc3d.ops._library import has_kernel
from pc3d.ops.grid_links import _reference


def drawn(seed: int, num_points: int, num_segments: int, size: float):
    """Points of a room, side by side as in a scan; every ninth segment has none."""
    rng = torch.Generator().manual_seed(seed)
    xyz = size * torch.rand(3, num_points, generator=rng)
    segment = torch.randint(0, num_segments, (num_points,), generator=rng).sort().values
    xyz[:2] += (segment % 7).float()
    return xyz, segment - (segment % 9 == 8).long(), num_segments


@pytest.mark.parametrize("given", [(0, 5000, 300, 3.0), (1, 40000, 900, 0.4), (2, 7, 3, 0.01), (3, 1, 1, 1.0)])
def test_the_kernel_links_what_the_reference_links(given):
    assert has_kernel("grid_links")
    xyz, segment, count = drawn(*given)
    expected = _reference(xyz, segment, count, 0.25)
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        assert all(torch.equal(one, other) for one, other in zip(grid_links(xyz, segment, count, 0.25), expected))
    torch.set_num_threads(threads)
    assert given[2] < 300 or count < len(expected[1]) < count**2 / 2


def test_cells_that_touch_at_a_corner_link_and_those_two_apart_do_not():
    """Cells (0, 0, 0), (1, 1, 1), (1, 3, 1) and (0, 0, 1), the last of segment 4; 3 has no points."""
    xyz = torch.tensor([[0.5, 0.5, 0.5], [1.5, 1.5, 1.5], [1.5, 3.5, 1.5], [0.0, 0.0, 1.0]]).T.contiguous()
    starts, linked = grid_links(xyz, torch.tensor([0, 1, 2, 4]), 5, 1.0)
    assert [row.tolist() for row in linked.tensor_split(starts[1:-1])] == [[0, 1, 4], [0, 1, 4], [2], [], [0, 1, 4]]


def test_rows_at_the_border_of_the_grid_do_not_meet_round_the_corner():
    xyz = torch.tensor([[0.5, 0.5, 2.5], [0.5, 1.5, 0.5], [1.5, 0.5, 0.5], [0.5, 2.5, 2.5]]).T.contiguous()
    segment = torch.arange(4)
    assert torch.equal(grid_links(xyz, segment, 4, 1.0)[1], torch.tensor([0, 1, 2, 1, 2, 3], dtype=torch.int32))


def test_points_far_away_leave_the_links_of_all_others():
    """Kilometres of empty cells: more than there are numbers, so that those without points get none."""
    xyz, segment, count = drawn(4, 3000, 300, 3.0)
    expected = grid_links(xyz, segment, count, 0.25)
    far = torch.tensor([[4e6, 4e6, 4e6], [4e6, 4e6, 4e6 + 2]]).T
    given = torch.cat([xyz, far], 1), torch.cat([segment, torch.tensor([count, count + 1])]), count + 2, 0.25
    starts, linked = grid_links(*given)
    assert torch.equal(starts[:count + 1], expected[0])
    assert torch.equal(linked[:-2], expected[1])
    assert linked[-2:].tolist() == [count, count + 1]
    assert all(map(torch.equal, (starts, linked), _reference(*given)))


def test_no_points_have_no_links():
    assert [one.tolist() for one in grid_links(torch.zeros(3, 0), torch.zeros(0, dtype=torch.int64), 2, 1.0)] == [[0, 0, 0], []]


def test_arguments_that_do_not_fit_are_refused():
    xyz, segment, count = drawn(0, 100, 9, 1.0)
    lost = xyz.clone()
    lost[1, 50] = float("nan")
    for wrong, message in (((xyz, segment, 5, 1.0), "out of range"), ((xyz, segment, count, 0.0), "out of range"),
                           ((xyz[:, :0], segment[:0], -1, 1.0), "out of range"), ((xyz.T, segment, count, 1.0), "xyz must be"),
                           ((xyz, segment[:9], count, 1.0), "segment must be"),
                           ((xyz * 1e12, segment, count, 1.0), "too far apart"), ((lost, segment, count, 1.0), "not finite")):
        with pytest.raises(ValueError, match=message):
            grid_links(*wrong)
