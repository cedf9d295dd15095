"""piece_sums sums what its torch reference sums, and what can be summed by hand."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import piece_sums
from pc3d.ops._library import has_kernel
from pc3d.ops.piece_sums import _reference
from tests.ops.test_mask_testimony import sparse

FIRST, NUMBER = torch.tensor([2, 0, 4]), torch.tensor([2, 2, 1])    # owners of the pieces 2 and 3, 0 and 1, and 4


def test_sums_of_two_sets_by_hand():
    counts = sparse([[1, 2, 3, 0, 0], [0, 10, 20, 30, 40], [0, 0, 500, 0, 600]])
    sets, pairs = sparse([[1, 1, 0], [0, 1, 1]]), sparse([[1, 1, 0], [0, 0, 1]])
    assert piece_sums(sets, counts, pairs, FIRST, NUMBER).tolist() == [23, 30, 1, 12, 640]


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_sums_what_the_reference_sums(seed):
    assert has_kernel("piece_sums")
    rng = torch.Generator().manual_seed(seed)
    number = torch.randint(0, 9, (40,), generator=rng)
    order = torch.randperm(40, generator=rng)
    first = torch.zeros(40, dtype=torch.int64)
    first[order] = number[order].cumsum(0) - number[order]

    def drawn(high, width, share):
        return sparse(torch.randint(1, 50, (high, width), generator=rng) * (torch.rand(high, width, generator=rng) < share))
    sets, counts, pairs = drawn(37, 50, 0.2), drawn(50, int(number.sum()), 0.5), drawn(37, 40, 0.3)
    expected = _reference(*sets[:2], *counts, *pairs[:2], first, number)
    assert len(expected) == number[pairs.columns.long()].sum() > 500
    threads = torch.get_num_threads()
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        assert torch.equal(piece_sums(sets, counts, pairs, first, number), expected)
    torch.set_num_threads(threads)


def test_no_pairs_have_no_sums():
    assert piece_sums(sparse([[1]]), sparse([[1, 0, 2, 0, 0]]), sparse(torch.zeros(1, 3, dtype=torch.int64)), FIRST,
                      NUMBER).shape == (0,)


def test_rows_that_do_not_fit_are_refused():
    sets, counts, pairs = sparse([[1, 1]]), sparse([[1, 0, 2, 0, 0], [0, 0, 0, 0, 1]]), sparse([[1, 1, 1]])
    with pytest.raises(ValueError, match="an entry is out of range"):
        piece_sums(sparse([[1, 1, 1]]), counts, pairs, FIRST, NUMBER)
    with pytest.raises(ValueError, match="an entry is out of range"):
        piece_sums(sets, counts, sparse([[0, 0, 0, 1]]), FIRST, NUMBER)
    with pytest.raises(ValueError, match="the sets or the counts do not fit"):
        piece_sums(sets, counts, sparse([[1, 0, 0], [1, 0, 0]]), FIRST, NUMBER)
    with pytest.raises(ValueError, match="a piece has no owner"):
        piece_sums(sets, counts, pairs, torch.tensor([2, 0, 3]), NUMBER)
