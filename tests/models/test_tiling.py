"""Instances of overlapping tiles as instances of the scan: six superpoints in a row, of ten points each."""

import numpy as np
import pytest

from pc3d.config import InferenceConfig
from pc3d.models import join_tiles
from pc3d.structures import Instances

IDS = np.arange(6).repeat(10)
OPTIONS = InferenceConfig(min_points=5)
LEFT, RIGHT = np.arange(0, 40), np.arange(20, 60)       # superpoints 0 to 3, and 2 to 5


def found(tile: np.ndarray, *objects: tuple[list[int], int, float]) -> Instances:
    """Instances of a tile: superpoints of the scan, label and score of each."""
    known, local = np.unique(IDS[tile], return_inverse=True)
    masks = np.array([np.isin(known, mask) for mask, _, _ in objects]).reshape(len(objects), len(known))
    scores = [score for _, _, score in objects]
    return Instances.from_masks(masks, [label for _, label, _ in objects], scores, ("chair", "table"), local,
                                {"mask_score": np.array(scores)})


def joined(*parts: tuple[np.ndarray, Instances], options: InferenceConfig = OPTIONS) -> list[tuple[list[int], int, float]]:
    tiles, instances = zip(*parts)
    result = join_tiles(tiles, instances, IDS, options)
    assert result.point_masks.shape[1] == len(IDS)
    np.testing.assert_allclose(result.evidence["mask_score"], result.scores)
    return [(np.flatnonzero(mask).tolist(), int(label), pytest.approx(float(score)))
            for mask, label, score in zip(result.segment_masks, result.labels, result.scores)]


def test_what_two_tiles_see_is_there_once_under_the_classes_of_the_mask_of_most_points_and_score():
    left = found(LEFT, ([1, 2, 3], 0, 0.6), ([1, 2, 3], 1, 0.2))
    right = found(RIGHT, ([2, 3], 1, 0.9))
    assert joined((LEFT, left), (RIGHT, right)) == [([1, 2, 3], 0, 0.6), ([1, 2, 3], 1, 0.2)]


def test_a_large_mask_that_is_less_sure_does_not_swallow_a_surer_one():
    left, right = found(LEFT, ([2], 0, 0.9), ([0, 1, 2], 1, 0.1)), found(RIGHT, ([2], 0, 0.8))
    assert joined((LEFT, left), (RIGHT, right)) == [([2], 0, 0.9), ([0, 1, 2], 1, 0.1)]


def test_where_masks_of_one_object_disagree_the_surer_one_is_believed():
    everywhere = np.arange(60)
    for sure, mask in ((0.9, [1, 2, 3]), (0.5, [2, 3])):
        one, other = found(everywhere, ([1, 2, 3], 0, sure)), found(everywhere, ([2, 3], 0, 0.7))
        assert [ids for ids, _, _ in joined((everywhere, one), (everywhere, other))] == [mask]


def test_masks_of_one_tile_are_not_joined_by_a_mask_of_another():
    left, right = found(LEFT, ([0, 2], 0, 0.9), ([1, 2], 1, 0.8)), found(RIGHT, ([2, 4], 0, 0.7))
    assert joined((LEFT, left), (RIGHT, right)) == [([0, 2, 4], 0, 0.9), ([1, 2], 1, 0.8)]


def test_an_object_that_no_tile_sees_whole_is_put_together():
    assert joined((LEFT, found(LEFT, ([0, 1, 2, 3], 1, 0.5))), (RIGHT, found(RIGHT, ([2, 3, 4, 5], 1, 0.5)))) == [
        ([0, 1, 2, 3, 4, 5], 1, 0.5)]


def test_objects_that_disagree_where_both_tiles_look_stay_apart_best_first():
    assert joined((LEFT, found(LEFT, ([0, 1, 2], 0, 0.5))), (RIGHT, found(RIGHT, ([3, 4], 0, 0.7)))) == [
        ([3, 4], 0, 0.7), ([0, 1, 2], 0, 0.5)]


def test_objects_of_one_tile_are_never_joined_but_of_much_overlap_the_best_stays():
    left = found(LEFT, ([0, 1, 2], 0, 0.5), ([0, 1], 1, 0.8), ([3], 0, 0.3))
    assert joined((LEFT, left)) == [([0, 1], 1, 0.8), ([0, 1, 2], 0, 0.5), ([3], 0, 0.3)]
    strict = OPTIONS.model_copy(update={"nms_iou": 0.5})
    assert joined((LEFT, left), options=strict) == [([0, 1], 1, 0.8), ([3], 0, 0.3)]


def test_a_tile_does_not_speak_of_a_superpoint_that_it_sees_less_than_half_of():
    edge = np.arange(0, 34)         # four of the ten points of superpoint 3
    assert joined((edge, found(edge, ([2, 3], 0, 0.5))), (RIGHT, found(RIGHT, ([4], 1, 0.4)))) == [
        ([2], 0, 0.5), ([4], 1, 0.4)]
    assert joined((edge, found(edge, ([3], 0, 0.5)))) == []     # nothing is left of it


def test_tiles_where_nothing_was_found_join_to_nothing():
    assert joined((LEFT, found(LEFT)), (RIGHT, found(RIGHT))) == []
