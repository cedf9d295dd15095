"""Masks of a frame: packed in as few planes as overlap needs, with ids, scores and labels that belong together."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.lift import FrameMasks


def disc(y, x, radius) -> np.ndarray:
    v, u = np.mgrid[:40, :50]
    return (v - y) ** 2 + (u - x) ** 2 < radius**2


def test_the_smaller_mask_lies_over_the_larger():
    large, small = disc(20, 25, 15), disc(20, 25, 5)
    for order in ([large, small], [small, large]):
        masks = FrameMasks.from_masks(np.array(order), scores=np.array([0.9, 0.8]))
        assert masks.ids.shape == (1, 40, 50)
        assert masks.areas.sum() == large.sum()
        assert sorted(masks.areas.tolist()) == sorted([small.sum(), large.sum() - small.sum()])
        np.testing.assert_allclose(masks.scores, [0.9, 0.8])


def test_overlapping_masks_stay_whole_in_as_many_layers_as_they_need():
    masks = [disc(20, 10, 8), disc(20, 14, 8), disc(20, 40, 8), disc(20, 25, 15)]
    packed = FrameMasks.from_masks(np.array(masks), overlaps=True)
    assert len(packed.ids) == 3
    for row, mask in enumerate(masks):
        assert np.array_equal((packed.ids == row + 1).any(axis=0), mask)


def test_numbers_of_a_label_map_become_ids_in_order():
    numbers = np.array([[7, 7, 0], [300, -5, 0]])
    masks = FrameMasks.from_label_map(numbers, scores=np.array([0.1, 0.2, 0.3]))
    assert masks.ids[0].tolist() == [[2, 2, 0], [3, 1, 0]]
    assert masks.areas.tolist() == [1, 2, 1]
    assert len(FrameMasks.empty()) == 0
    assert len(FrameMasks.from_masks(np.zeros((0, 4, 5), bool))) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("none", [0, 3, 7])
def test_ids_of_any_numbers_are_their_ranks(dtype, none):
    rng = np.random.default_rng(0)
    for low, high in ((0, 9), (3, 100), (-5, 5), (-128, 127), (0, 2**40)):
        if low < np.iinfo(dtype).min or high > np.iinfo(dtype).max:
            continue
        numbers = rng.integers(low, high, (6, 7), endpoint=True).astype(dtype)
        found = FrameMasks.from_label_map(numbers, none=none).ids[0]
        kept = [value for value in np.unique(numbers).tolist() if value != none]
        assert found.tolist() == [[kept.index(value) + 1 if value != none else 0 for value in row] for row in numbers.tolist()]


def test_more_masks_than_16_bits_can_name_are_refused():
    numbers = np.arange(256 * 257).reshape(256, 257)
    with pytest.raises(DataError, match="too many masks in one image; got 65791; expected up to 65535"):
        FrameMasks.from_label_map(numbers)
    assert len(FrameMasks.from_label_map(numbers[:, :256] + (numbers[:, :256] > 65600))) <= 65535


FAULTS = {
    "a flat map": (lambda: FrameMasks.from_label_map(np.zeros((2, 3, 3), int)), "one plane of numbers"),
    "flat masks": (lambda: FrameMasks.from_masks(np.zeros((3, 3), bool)), "planes of booleans"),
    "an id too many": (lambda: FrameMasks(np.full((1, 2, 2), 2, np.uint16), np.ones(1, np.float32), np.array([-1])),
                       "a mask id has no score; got 2; expected up to 1"),
    "a wild score": (lambda: FrameMasks.from_masks(np.ones((1, 2, 2), bool), scores=np.array([1.5])), r"must be in \[0, 1\]"),
    "a nan score": (lambda: FrameMasks.from_masks(np.ones((1, 2, 2), bool), scores=np.array([np.nan])), r"must be in \[0, 1\]"),
    "a label without class": (lambda: FrameMasks.from_masks(np.ones((1, 2, 2), bool), labels=np.array([0])), "has no class"),
    "a label short": (lambda: FrameMasks.from_masks(np.ones((2, 2, 2), bool), labels=np.array([-1])), "mask needs a label"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_belong_together_is_refused(name):
    make, words = FAULTS[name]
    with pytest.raises(DataError, match=words):
        make()
