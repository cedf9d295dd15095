"""Ops of instance metrics against their references: counting shared points, and ScanNet's greedy matching."""

import numpy as np
import pytest
import torch

from pc3d.errors import DataError
from pc3d.ops import match_instances, shared_counts
from pc3d.ops.match_instances import _reference as match_reference
from pc3d.ops.shared_counts import _reference as count_reference


def pack(masks):
    return torch.from_numpy(np.packbits(np.asarray(masks, dtype=bool), axis=1, bitorder="little"))


@pytest.mark.parametrize(("points", "segments", "numbers", "rows"), [
    (0, 0, 1, 3), (0, 5, 2, 3), (50, 1, 3, 2), (500, 63, 1, 9), (500, 64, 7, 9), (500, 65, 7, 0), (700, 700, 20, 70)])
def test_shared_counts_are_counted_on_point_masks(points, segments, numbers, rows):
    rng = np.random.default_rng(points + segments)
    masks = rng.random((rows, segments)) < 0.3
    segment = rng.integers(segments, size=points) if segments else np.zeros(0, dtype=np.int64)
    number = rng.integers(numbers, size=points)
    arguments = (pack(masks), torch.from_numpy(segment), torch.from_numpy(number), segments, numbers)
    expected = [[int((mask[segment] & (number == n)).sum()) for n in range(numbers)] for mask in masks]
    assert shared_counts(*arguments).tolist() == expected
    assert count_reference(*arguments).tolist() == expected


def test_bits_beyond_the_last_segment_do_not_count():
    segment = torch.tensor([0, 1, 2])
    full = torch.full((1, 1), 255, dtype=torch.uint8)
    assert shared_counts(full, segment, torch.zeros(3, dtype=torch.int64), 3, 1).tolist() == [[3]]


def test_shared_counts_do_not_depend_on_threads():
    rng = np.random.default_rng(0)
    arguments = (pack(rng.random((40, 300)) < 0.2), torch.from_numpy(rng.integers(300, size=5000)),
                 torch.from_numpy(rng.integers(11, size=5000)), 300, 11)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(shared_counts(*arguments))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize(("segment", "number"), [([0, 3], [0, 0]), ([0, -1], [0, 0]), ([0, 1], [0, 2]), ([0, 1], [0])])
def test_shared_counts_refuse_ids_out_of_range(segment, number):
    with pytest.raises(DataError, match="shared_counts"):
        shared_counts(pack([[True, False, True]]), torch.tensor(segment), torch.tensor(number), 3, 2)


def random_match(seed):
    rng = np.random.default_rng(seed)
    predicted, truths = rng.integers(0, 9, size=2)
    labels, truth_labels = rng.integers(0, 3, size=predicted), np.sort(rng.integers(0, 3, size=truths))
    iou = np.where(labels[:, None] == truth_labels, np.round(rng.random((predicted, truths)), 1), 0.0)
    columns = (iou, np.round(rng.random(predicted), 1), labels, np.round(rng.random(predicted), 1), truth_labels,
               rng.random(truths) < 0.8, np.array([0.5, 0.25, 0.9]))
    return [torch.from_numpy(column) for column in columns]


@pytest.mark.parametrize("seed", range(60))
def test_matching_is_its_reference(seed):
    arguments = random_match(seed)
    own, expected = match_instances(*arguments), match_reference(*arguments)
    assert sorted(zip(*(column.tolist() for column in own[:3]))) == sorted(zip(*(column.tolist() for column in expected[:3])))
    assert sorted(own.missed.tolist()) == sorted(expected[3].tolist())


def test_matching_by_hand():
    """Two predictions want the first truth; the second of them stays free for the other truth at 0.25."""
    iou = torch.tensor([[0.6, 0.0], [0.55, 0.3]], dtype=torch.float64)
    found = match_instances(iou, torch.zeros(2).double(), torch.tensor([1, 1]), torch.tensor([0.2, 0.9], dtype=torch.float64),
                            torch.tensor([1, 1]), torch.tensor([True, True]), torch.tensor([0.5, 0.25], dtype=torch.float64))
    assert sorted(zip(found.cell.tolist(), found.hit.tolist(), found.score.tolist())) == [
        (2, False, 0.2), (2, True, 0.9), (3, False, 0.2), (3, True, 0.9), (3, True, 0.9)]
    assert found.missed.tolist() == [2]


def test_matching_refuses_columns_that_do_not_fit():
    arguments = random_match(1)
    with pytest.raises(DataError, match="scores has the wrong type or shape"):
        match_instances(*arguments[:3], arguments[3].float(), *arguments[4:])
