from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.structures import Instances

CLASSES = ("chair", "table")


def random_instances(rng: np.random.Generator, count: int = 5, segments: int = 13, points: int | None = 40) -> Instances:
    """Instances over superpoints, or over the points themselves when ``points`` is None."""
    ids = None if points is None else rng.integers(0, segments, points)
    return Instances.from_masks(rng.random((count, segments)) < 0.4, rng.integers(0, 2, count), rng.random(count), CLASSES, ids,
                                evidence={"views": np.arange(count)})


@pytest.mark.parametrize("segments", [0, 1, 7, 8, 9, 64])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_masks_survive_their_packing(rng: np.random.Generator, count: int, segments: int) -> None:
    masks = rng.random((count, segments)) < 0.5
    instances = Instances.from_masks(masks, np.zeros(count), np.zeros(count), CLASSES)
    np.testing.assert_array_equal(instances.segment_masks, masks)
    np.testing.assert_array_equal(instances.point_masks, masks)


def test_a_point_belongs_where_its_superpoint_does(rng: np.random.Generator) -> None:
    instances = random_instances(rng)
    assert instances.point_to_superpoint is not None
    for point, segment in enumerate(instances.point_to_superpoint):
        np.testing.assert_array_equal(instances.point_masks[:, point], instances.segment_masks[:, segment])
    np.testing.assert_array_equal(instances.num_points, instances.point_masks.sum(axis=1))


def test_the_highest_score_wins_an_overlap_and_the_first_row_a_tie() -> None:
    masks = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 1, 0]], dtype=bool)
    instances = Instances.from_masks(masks, [0, 1, 0], [0.5, 0.9, 0.9], CLASSES, np.array([0, 1, 2, 3, 4, 4, 0]))
    row, label = instances.to_labels()
    assert row.tolist() == [0, 1, 1, 1, -1, -1, 0]
    assert label.tolist() == [0, 1, 1, 1, -1, -1, 0]


def test_no_instances_label_nothing() -> None:
    nothing = Instances.from_masks(np.zeros((0, 3)), [], [], CLASSES, np.array([0, 1, 2, 2]))
    row, label = nothing.to_labels()
    assert row.tolist() == label.tolist() == [-1] * 4
    assert nothing.to_records(np.zeros((4, 3))) == nothing.to_coco_rle() == []
    assert nothing.num_points.shape == (0,)


@pytest.mark.parametrize("index", [slice(1, 4), [3, 0], np.array([True, False, False, True, True]), 2, []], ids=str)
def test_an_index_selects_masks_scores_and_evidence_together(rng: np.random.Generator, index) -> None:
    instances = random_instances(rng)
    rows = np.atleast_1d(np.arange(5)[index])
    part = instances[index]
    np.testing.assert_array_equal(part.segment_masks, instances.segment_masks[rows])
    np.testing.assert_array_equal(part.scores, instances.scores[rows])
    np.testing.assert_array_equal(part.evidence["views"], rows)


def test_run_lengths_give_the_mask_back(rng: np.random.Generator) -> None:
    instances = random_instances(rng)
    for row, record in enumerate(instances.to_coco_rle()):
        mask = np.repeat(np.arange(len(record["counts"])) % 2 == 1, record["counts"])
        np.testing.assert_array_equal(mask, instances.point_masks[row])
        assert record["size"] == [40, 1]
    starts_inside = Instances.from_masks(np.array([[True, True, False]]), [0], [1.0], CLASSES)
    assert starts_inside.to_coco_rle()[0]["counts"] == [0, 2, 1]


def test_a_record_says_what_where_and_how_sure() -> None:
    instances = Instances.from_masks(np.array([[1, 0, 1], [0, 0, 0]], dtype=bool), [1, 0], [0.25, 0.5], CLASSES, evidence={
        "source": np.array(["images", "both"]), "num_frames": np.array([3, 0]),
        "agreement": np.array([0.5, np.nan], np.float32), "label_votes": np.zeros((2, 2))})
    xyz = np.array([[0, 0, 0], [9, 9, 9], [1, 2, 3]], dtype=np.float32)
    first, empty = instances.to_records(xyz)
    assert first == {"id": 0, "label": "table", "score": 0.25, "num_points": 2, "box": {"min": [0, 0, 0], "max": [1, 2, 3]},
                     "evidence": {"source": "images", "num_frames": 3, "agreement": 0.5}}
    assert empty["num_points"] == 0
    assert empty["box"] is None
    assert empty["evidence"]["agreement"] is None       # json has no NaN


@pytest.mark.parametrize(("changes", "message"), [
    ({"labels": [0, 2]}, "instance 1: a label has no class name"),
    ({"labels": [-1, 0]}, "instance 0: a label has no class name"),
    ({"scores": [0.1, np.nan]}, "instance 1: a score is not finite"),
    ({"scores": [0.1]}, "every instance needs a score"),
    ({"masks": np.zeros((3, 4))}, "masks do not fit"),
    ({"point_to_superpoint": np.array([0, 4])}, "out of range"),
    ({"point_to_superpoint": np.array([-1, 0])}, "out of range"),
])
def test_instances_that_make_no_sense_are_refused(changes: dict, message: str) -> None:
    arguments = {"masks": np.zeros((2, 4)), "labels": [0, 1], "scores": [0.1, 0.2], "classes": CLASSES, **changes}
    with pytest.raises(DataError, match=message):
        Instances.from_masks(**arguments)


def test_boxes_are_those_of_the_points_and_nan_for_an_instance_without_any() -> None:
    rng = np.random.default_rng(0)
    ids = rng.choice([0, 1, 3, 4], 30)  # superpoint 2 has no point
    xyz = rng.standard_normal((30, 3))
    masks = np.array([[1, 0, 1, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 0, 1]], dtype=bool)
    boxes = Instances.from_masks(masks, [0, 0, 0], [1, 1, 1], ["thing"], ids).boxes(xyz)
    for row in (0, 2):
        points = xyz[masks[row][ids]]
        np.testing.assert_array_equal(boxes[row], [points.min(axis=0), points.max(axis=0)])
    assert np.isnan(boxes[1]).all()


def test_instances_show_how_many_there_are_and_on_what() -> None:
    rng = np.random.default_rng(0)
    assert repr(random_instances(rng)) == "Instances(5 of 2 classes on 13 superpoints of 40 points)"
    assert repr(random_instances(rng, points=None)) == "Instances(5 of 2 classes on 13 points)"
