"""Every way to associate masks finds the boxes of a room, survives what 2D models do wrong, and knows how sure it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pc3d.lift import FrameMasks, LiftConfig, Lifter
from pc3d.lift.methods import GROUPERS
from pc3d.metrics import ClassAgnosticAP

ROBUST = ("consensus", "region", "hierarchical")
CLASSES = ("box", "ball", "cone")


def lifted(scene, edit=None, config=None) -> Lifter:
    """Lift the truth, after ``edit(row, map)`` has spoilt a copy of it; -1 is none."""
    lifter = Lifter(scene.cloud, config)
    for row, (frame, seen) in enumerate(zip(scene.frames, scene.seen)):
        spoilt = seen.copy()
        if edit is not None:
            edit(row, spoilt)
        lifter.add(frame, FrameMasks.from_label_map(spoilt, none=-1))
    return lifter


def ap50(scene, instances) -> float:
    metric = ClassAgnosticAP(("box",), "objects")
    metric.add(scene.cloud.labels, scene.cloud.instances, instances)
    return metric.result().ap50


def ious(scene, instances) -> np.ndarray:
    """Best IoU of each of the five boxes."""
    masks = instances.point_masks
    best = []
    for box in range(5):
        true = scene.cloud.instances == box
        best.append(max(((mask & true).sum() / (mask | true).sum() for mask in masks), default=0.0))
    return np.array(best)


@pytest.mark.parametrize("method", ROBUST)
def test_true_masks_give_the_true_objects(scene, method):
    found = lifted(scene).instances(method)
    assert len(found) == 5
    assert ap50(scene, found) == pytest.approx(1)
    assert found.classes == ("object",)


@pytest.mark.parametrize("method", ROBUST)
def test_masks_merged_in_a_quarter_of_the_frames_do_not_merge_objects(scene, method):
    def merge(row, seen):
        if row % 4 == 0:
            seen[seen == 1] = 0
    assert ious(scene, lifted(scene, merge).instances(method)).min() > 0.5


@pytest.mark.parametrize("method", ROBUST)
def test_masks_cut_in_a_third_of_the_frames_do_not_cut_objects(scene, method):
    def cut(row, seen):
        if row % 3 == 0:
            half = seen[:, :40]
            half[half >= 0] += 10
    found = lifted(scene, cut).instances(method)
    assert ious(scene, found).min() > 0.5


@pytest.mark.parametrize("method", ROBUST)
def test_masks_missing_in_a_third_of_the_frames_do_not_lose_objects(scene, method):
    def drop(row, seen):
        seen[seen == row % 5] = -1
        seen[seen == (row // 2) % 5] = -1
    assert ious(scene, lifted(scene, drop).instances(method)).min() > 0.5


@pytest.mark.parametrize("method", ROBUST)
def test_scores_tell_objects_from_accidents(scene, method):
    """A mask on the bare wall in three frames is less sure than a box in twenty, whatever the 2D model said of it."""
    def invent(row, seen):
        if row in (2, 3, 4):
            seen[:12, 10:40] = np.where(seen[:12, 10:40] < 0, 77, seen[:12, 10:40])
    found = lifted(scene, invent).instances(method)
    is_box = np.array([np.mean(scene.cloud.instances[mask] >= 0) > 0.5 for mask in found.point_masks])
    assert is_box[:5].all()
    assert found.scores[:5].min() > 0.5
    assert (found.scores[~is_box] < found.scores[:5].min()).all()
    assert len(set(found.scores.tolist())) > 3


@pytest.mark.parametrize("method", GROUPERS)
def test_evidence_counts_frames_masks_and_votes(scene, method):
    found = lifted(scene).instances(method)
    visible = [[int((seen == box).sum() > 0) for seen in scene.seen] for box in range(5)]
    for row in range(len(found)):
        box = np.bincount(scene.cloud.instances[found[row].point_masks[0]] + 1).argmax() - 1
        frames = int(found.evidence["num_frames"][row])
        assert 3 <= frames <= sum(visible[box])
        assert found.evidence["num_masks"][row] == frames
        assert found.evidence["num_votes"][row] > 100
        best = found.evidence["best_frames"][row]
        areas = np.array([(seen == box).sum() for seen in scene.seen])
        assert areas[best[0]] >= 0.5 * areas.max()


def test_labels_are_voted_by_score_and_points_and_the_distribution_is_kept(scene):
    """Most frames call box 0 a ball, fewer but surer ones a cone."""
    lifter = Lifter(scene.cloud)
    for row, (frame, seen) in enumerate(zip(scene.frames, scene.seen)):
        plain = FrameMasks.from_label_map(seen, none=-1)
        boxes = np.unique(seen[seen >= 0])
        labels = np.where(boxes == 0, 1 if row % 3 else 2, 0)
        scores = np.where(boxes == 0, 0.2 if row % 3 else 1.0, 0.9)
        lifter.add(frame, FrameMasks(plain.ids, scores.astype(np.float32), labels, CLASSES))
    found = lifter.instances()
    box = [np.bincount(scene.cloud.instances[mask] + 1).argmax() - 1 for mask in found.point_masks]
    row = box.index(0)
    votes = found.evidence["label_votes"]
    assert CLASSES[found.labels[row]] == "cone"
    assert votes[row, 0] == 0
    assert votes[row, 2] > votes[row, 1] > 0
    np.testing.assert_allclose(votes.sum(axis=1), 1, atol=1e-6)
    assert [found.labels[other] for other in range(5) if other != row] == [0] * 4


@pytest.mark.parametrize("method", GROUPERS)
def test_what_no_mask_has_a_name_for_is_an_object(scene, method):
    """Only the masks of box 0 bear a label."""
    lifter = Lifter(scene.cloud)
    for frame, seen in zip(scene.frames, scene.seen):
        boxes = np.unique(seen[seen >= 0])
        lifter.add(frame, FrameMasks.from_label_map(seen, labels=np.where(boxes == 0, 1, -1), classes=CLASSES, none=-1))
    found = lifter.instances(method)
    named = {np.bincount(scene.cloud.instances[mask] + 1).argmax() - 1: found.classes[label]
             for mask, label in zip(found.point_masks, found.labels)}
    assert named == {0: CLASSES[1], 1: "object", 2: "object", 3: "object", 4: "object"}
    assert found.classes == (*CLASSES, "object")


def test_a_group_whose_parts_do_not_touch_is_split(scene):
    """Boxes 0 and 3 stand apart; a model that always calls them one thing does not make them one object."""
    def join(row, seen):
        seen[seen == 3] = 0
    found = lifted(scene, join).instances()
    assert ious(scene, found)[[0, 3]].min() > 0.5


def without_middle(scene):
    """The scene after something stood before 30 cm of box 1: no point there, but every mask spans both of its ends."""
    x = scene.cloud.xyz[:, 0]
    cloud = scene.cloud[np.flatnonzero((scene.cloud.instances != 1) | (np.abs(x - 3.0) > 0.15))]
    return replace(scene, cloud=replace(cloud, superpoints=np.unique(cloud.superpoints, return_inverse=True)[1].reshape(-1)))


@pytest.mark.parametrize("method", ROBUST)
def test_an_object_whose_middle_is_missing_from_the_scan_stays_one(scene, method):
    seen_through = without_middle(scene)
    assert ious(seen_through, lifted(seen_through).instances(method))[1] > 0.9
    apart = lifted(seen_through, config=LiftConfig(gap_distance=0.1)).instances(method)
    assert ious(seen_through, apart)[1] < 0.7


def test_one_lonely_mask_is_no_object_unless_it_may_be(scene):
    def once(row, seen):
        if row != 5:
            seen[seen == 4] = -1
    assert ious(scene, lifted(scene, once).instances())[4] < 0.25
    alone = lifted(scene, once, LiftConfig(min_masks=1)).instances()
    assert ious(scene, alone)[4] > 0.25


def test_tracks_join_what_overlaps_too_little_by_itself(scene):
    """Every frame sees only the left or only the right two thirds of box 1; a video model knows that they are one."""
    def lifted(tracked):
        lifter = Lifter(scene.cloud, LiftConfig(merge_iou=0.8, merge_recall=2.0))
        for row, (frame, seen) in enumerate(zip(scene.frames, scene.seen)):
            columns = np.nonzero(seen == 1)[1]
            if not len(columns):
                continue
            low, high = np.quantile(columns, (0.0, 0.65) if row % 2 else (0.35, 1.0))
            part = (seen == 1) & (np.arange(80) >= low) & (np.arange(80) <= high)
            lifter.add(frame, FrameMasks.from_masks(part[None], tracks=np.array([7 if tracked else -1])))
        return lifter.instances("hierarchical")
    assert ious(scene, lifted(tracked=True))[1] > ious(scene, lifted(tracked=False))[1] + 0.1


def halves(scene, track_of, config=None, left_in=lambda row: row % 2) -> Lifter:
    """Something hides the left of box 1 in some frames (every other one), and the right in the rest: no frame sees both."""
    lifter = Lifter(scene.cloud, config)
    for row, (frame, seen) in enumerate(zip(scene.frames, scene.seen)):
        pixels = np.stack(np.meshgrid(np.arange(80), np.arange(60)), axis=-1).reshape(-1, 2).astype(float)
        pose, depth = frame.T_world_camera, frame.depth
        world = (frame.camera.rays(pixels) * depth.reshape(-1, 1)) @ pose[:3, :3].T + pose[:3, 3]
        left = (world[:, 0] < 3.0).reshape(seen.shape)
        part = (seen == 1) & (left if left_in(row) else ~left)
        others = [seen == box for box in (0, 2, 3, 4)]
        lifter.add(frame, FrameMasks.from_masks(np.array([part, *others]), tracks=np.array([track_of(row), 0, 2, 3, 4])),
                   np.where((seen == 1) & ~part, 0.5 * depth, depth))
    return lifter


@pytest.mark.parametrize("method", ROBUST)
def test_a_track_joins_what_is_never_seen_at_once(scene, method):
    scene = without_middle(scene)       # region grows over what touches
    apart, joined = (halves(scene, track).instances(method) for track in (lambda row: -1, lambda row: 7))
    assert ious(scene, apart)[1] < 0.65
    assert ious(scene, joined)[1] > 0.85
    assert len(joined) == len(apart) - 1
    others = [0, 2, 3, 4]
    np.testing.assert_allclose(ious(scene, joined)[others], ious(scene, apart)[others])


@pytest.mark.parametrize("method", ROBUST)
def test_a_track_that_strays_for_some_frames_joins_nothing(scene, method):
    """The right half of box 1 is followed as 7, and its left half as 8, but for two frames."""
    scene = without_middle(scene)

    def strays(config=None):
        return halves(scene, lambda row: 7 if row % 2 == 0 or row in (1, 21) else 8, config).instances(method)
    apart = halves(scene, lambda row: -1).instances(method)
    assert np.array_equal(strays().bits, apart.bits)
    assert ious(scene, strays(LiftConfig(track_share=0.1)))[1] > ious(scene, apart)[1] + 0.2


@pytest.mark.parametrize("method", ROBUST)
def test_few_masks_of_a_track_join_nothing(scene, method):
    """The left half is seen in 3 frames of 15."""
    scene, few = without_middle(scene), (2, 5, 8)
    tracked, apart = (halves(scene, lambda row, track=track: track, None, few.__contains__).instances(method)
                      for track in (7, -1))
    assert np.array_equal(tracked.bits, apart.bits)
    joined = halves(scene, lambda row: 7, LiftConfig(track_share=0.2), few.__contains__).instances(method)
    assert ious(scene, joined)[1] > ious(scene, apart)[1] + 0.2


@pytest.mark.parametrize("method", ROBUST)
def test_a_track_does_not_bridge_what_lies_apart(scene, method):
    """Box 0 and box 3 are followed as one, a metre apart."""
    def lifted(tracks):
        lifter = Lifter(scene.cloud)
        for frame, seen in zip(scene.frames, scene.seen):
            lifter.add(frame, FrameMasks.from_masks(np.array([seen == box for box in range(5)]), tracks=np.array(tracks)))
        return lifter.instances(method)
    wrong, none = lifted([7, 1, 2, 7, 4]), lifted([-1] * 5)
    np.testing.assert_allclose(ious(scene, wrong), ious(scene, none), atol=0.05)


def test_overlapping_masks_of_parts_and_wholes_both_count(scene):
    """Every frame gives each box whole and its left half too; kept as layers, the wholes win."""
    lifter = Lifter(scene.cloud)
    for frame, seen in zip(scene.frames, scene.seen):
        wholes = [seen == box for box in np.unique(seen[seen >= 0])]
        halves = [mask & (np.arange(80) < np.median(np.nonzero(mask)[1])) for mask in wholes]
        lifter.add(frame, FrameMasks.from_masks(np.array(wholes + halves), overlaps=True))
    assert ious(scene, lifter.instances("consensus")).min() > 0.5
