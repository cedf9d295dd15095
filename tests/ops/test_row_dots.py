"""row_dots gives the inner products of its torch reference, and of dense matrices."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import row_dots
from pc3d.ops._library import has_kernel
from pc3d.ops.row_dots import _reference
from tests.ops.test_mask_testimony import sparse


def drawn(seed: int, rows: int = 60, columns: int = 90, pairs: int = 1000):
    """Rows of a third of the columns, the last one empty, and pairs in no order."""
    rng = torch.Generator().manual_seed(seed)
    dense = torch.randn(rows, columns, generator=rng, dtype=torch.float64) * (torch.rand(rows, columns, generator=rng) < 1 / 3)
    dense[-1] = 0
    return dense, (*sparse(dense)[:2], dense[dense != 0], columns, *torch.randint(0, rows, (2, pairs), generator=rng))


@pytest.mark.parametrize("seed", range(3))
def test_the_kernel_multiplies_as_the_reference_and_dense_matrices_do(seed):
    assert has_kernel("row_dots")
    dense, given = drawn(seed)
    *_, first, second = given
    expected = _reference(*given)
    torch.testing.assert_close(expected, (dense[first] * dense[second]).sum(1), rtol=0, atol=1e-12)
    got = row_dots(*given)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    threads = torch.get_num_threads()
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        assert torch.equal(row_dots(*given), got)
    torch.set_num_threads(threads)


def test_no_pairs_and_no_rows():
    _, (*rows, first, second) = drawn(0)
    assert row_dots(*rows, first[:0], second[:0]).tolist() == []
    starts, columns, values, _ = rows
    assert row_dots(starts[:1], columns[:0], values[:0], 4, first[:0], second[:0]).tolist() == []


def test_rows_and_pairs_that_do_not_fit_are_refused():
    _, (starts, columns, values, count, first, second) = drawn(0)
    for wrong, problem in (((starts, columns, values, count - 1, first, second), "out of range"),
                           ((starts, columns.flip(0), values, count, first, second), "does not ascend"),
                           ((starts[1:], columns, values, count, first, second), "starts do not fit"),
                           ((starts[:1], columns[:0], values[:0], -1, first[:0], second[:0]), "rows must be"),
                           ((starts, columns, values.float(), count, first, second), "rows must be"),
                           ((starts, columns, values, count, first - 1, second), "a pair is out of range"),
                           ((starts, columns, values, count, first, second[1:]), "pairs must be")):
        with pytest.raises(ValueError, match=problem):
            row_dots(*wrong)
