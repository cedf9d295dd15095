"""linked_parts cuts sets where its torch reference cuts them, and where a look says."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import linked_parts
from pc3d.ops._library import has_kernel
from pc3d.ops.linked_parts import _reference
from tests.ops.test_mask_testimony import sparse


def drawn(seed: int, sets: int = 30, nodes: int = 200):
    """Sets of a third of the nodes, none of them in the last; each node is linked to itself and some two others."""
    rng = torch.Generator().manual_seed(seed)
    links = torch.rand(nodes, nodes, generator=rng) < 1 / nodes
    members = torch.rand(sets, nodes, generator=rng) < 1 / 3
    members[-1] = False
    return *sparse(members)[:2], *sparse(links | links.T | torch.eye(nodes, dtype=torch.bool))[:2]


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_cuts_where_the_reference_cuts(seed):
    assert has_kernel("linked_parts")
    given = drawn(seed)
    expected = _reference(*given)
    assert 300 < expected.max() < 0.75 * len(expected)
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        assert torch.equal(linked_parts(*given), expected)
    torch.set_num_threads(threads)


def test_a_set_is_cut_where_what_links_it_is_not_in_it():
    """A chain of five nodes: all of it, without the middle, and its ends and middle."""
    chain = sparse(torch.eye(5) + torch.diag(torch.ones(4), 1) + torch.diag(torch.ones(4), -1))[:2]
    sets = sparse(torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 1, 1], [1, 0, 1, 0, 1]]))[:2]
    assert linked_parts(*sets, *chain).tolist() == [0] * 5 + [1, 1, 2, 2] + [3, 4, 5]


def test_no_sets_have_no_parts():
    none = sparse(torch.zeros(0, 4))[:2]
    assert linked_parts(*none, *sparse(torch.eye(4))[:2]).tolist() == []


def test_rows_that_do_not_fit_are_refused():
    starts, members, link_starts, linked = drawn(0)
    with pytest.raises(ValueError, match="an entry is out of range"):
        linked_parts(starts, members + 1, link_starts, linked)
    with pytest.raises(ValueError, match="starts do not fit"):
        linked_parts(starts, members[1:], link_starts, linked)
