"""grow_regions grows the regions of its torch reference, and those that can be grown by hand."""

from __future__ import annotations

import pytest
import torch

from pc3d.ops import grow_regions
from pc3d.ops._library import has_kernel
from pc3d.ops.grow_regions import _reference


def graph(affinity):
    """Rows of a symmetric matrix (R, R); 0 is no neighbour."""
    affinity = torch.as_tensor(affinity, dtype=torch.float64)
    row, neighbor = affinity.nonzero().T
    return torch.searchsorted(row, torch.arange(len(affinity) + 1)), neighbor.int(), affinity[row, neighbor]


def drawn(seed, count=60, degree=8.0):
    generator = torch.Generator().manual_seed(seed)
    touch = (torch.rand(count, count, generator=generator) < degree / count).triu(1)
    affinity = torch.where(touch, torch.rand(count, count, generator=generator).clamp(min=0.05), 0.0)
    return (*graph(affinity + affinity.T), torch.randint(1, 500, (count,), generator=generator).double())


def chain(*affinities):
    matrix = torch.zeros(len(affinities) + 1, len(affinities) + 1)
    for row, value in enumerate(affinities):
        matrix[row, row + 1] = matrix[row + 1, row] = value
    return graph(matrix)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.8, 0.5, 0.3])
def test_the_kernel_grows_the_regions_of_the_reference(seed, threshold):
    assert has_kernel("grow_regions")
    arguments = drawn(seed)
    expected = _reference(*arguments, threshold, 0.5)
    assert torch.equal(grow_regions(*arguments, threshold, 0.5), expected)
    if threshold == 0.5:
        assert 2 < expected.max() < 55


def test_a_neighbour_joins_at_the_threshold():
    ones = torch.ones(3, dtype=torch.float64)
    assert grow_regions(*chain(0.5, 0.25), ones, 0.5, 0.0).tolist() == [0, 0, 1]
    assert grow_regions(*chain(0.5, 0.25), ones, 0.25, 0.0).tolist() == [0, 0, 0]


def test_members_touched_through_another_count_too():
    """Node 2 touches node 1 (0.8), and through it node 0: (0.8 + 0.5 * 0.6 * 0.8) / (1 + 0.5) = 0.693."""
    ones = torch.ones(3, dtype=torch.float64)
    assert grow_regions(*chain(0.6, 0.8), ones, 0.6, 0.5).tolist() == [0, 0, 0]
    assert grow_regions(*chain(0.6, 0.8), ones, 0.6, 0.0).tolist() == [0, 0, 0]
    assert grow_regions(*chain(0.75, 0.8), ones, 0.74, 0.5).tolist() == [0, 0, 1]      # 0.733
    assert grow_regions(*chain(0.75, 0.8), ones, 0.73, 0.5).tolist() == [0, 0, 0]


def test_large_members_weigh_more():
    matrix = torch.tensor([[0, 0.9, 0.2], [0.9, 0, 0.9], [0.2, 0.9, 0]])
    sizes = torch.tensor([100.0, 1.0, 1.0], dtype=torch.float64)
    assert grow_regions(*graph(matrix), sizes, 0.5, 0.0).tolist() == [0, 0, 1]
    assert grow_regions(*graph(matrix), torch.ones(3, dtype=torch.float64), 0.5, 0.0).tolist() == [0, 0, 0]


def test_no_nodes_and_nodes_without_neighbours():
    none = (torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32), torch.zeros(0, dtype=torch.float64))
    assert grow_regions(*none, torch.zeros(0, dtype=torch.float64), 0.5, 0.5).tolist() == []
    alone = (torch.zeros(4, dtype=torch.int64), *none[1:])
    assert grow_regions(*alone, torch.ones(3, dtype=torch.float64), 0.5, 0.5).tolist() == [0, 1, 2]


def test_rows_that_do_not_fit_are_refused():
    starts, neighbors, affinity = chain(0.5, 0.25)
    sizes = torch.ones(3, dtype=torch.float64)
    for bad in ((starts[:-1], neighbors, affinity, sizes), (starts + 1, neighbors, affinity, sizes),
                (starts, neighbors.flip(0), affinity, sizes), (starts, neighbors + 1, affinity, sizes),
                (starts, neighbors, affinity[1:], sizes), (starts, neighbors, affinity.float(), sizes)):
        with pytest.raises((ValueError, RuntimeError), match="grow_regions"):
            grow_regions(*bad, 0.5, 0.5)
