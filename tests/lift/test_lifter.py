"""Frames in one by one, or all at once; with depth, without; good ones count whatever the others are."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest

from pc3d.errors import ConfigError, DataError, FormatError
from pc3d.lift import FrameMasks, Lifter, lift
from pc3d.lift.methods import GROUPERS
from pc3d.lift.segmenters import GivenMasks


def truth(seen) -> FrameMasks:
    return FrameMasks.from_label_map(seen, none=-1)


def filled(scene, rows=slice(None)) -> Lifter:
    lifter = Lifter(scene.cloud)
    for frame, seen in list(zip(scene.frames, scene.seen))[rows]:
        lifter.add(frame, truth(seen))
    return lifter


def same(first, second) -> bool:
    return (np.array_equal(first.bits, second.bits) and np.array_equal(first.scores, second.scores)
            and all(np.array_equal(first.evidence[name], second.evidence[name]) for name in first.evidence))


@pytest.mark.parametrize("method", GROUPERS)
def test_frames_one_by_one_end_as_all_at_once(scene, method):
    lifter = Lifter(scene.cloud)
    for frame, seen in zip(scene.frames, scene.seen):
        lifter.add(frame, truth(seen))
        if frame.name in ("0003", "0011"):
            assert len(lifter.instances(method)) > 0      # asking in between changes nothing
    assert same(lifter.instances(method), filled(scene).instances(method))
    masks = GivenMasks({frame.name: truth(seen) for frame, seen in zip(scene.frames, scene.seen)})
    found, _ = lift(scene.cloud, iter(scene.frames), masks, method=method)
    assert same(found, lifter.instances(method))


def test_many_frames_are_counted_some_at_once(scene, monkeypatch):
    lifter, given = Lifter(scene.cloud), [(frame, truth(seen), frame.depth) for frame, seen in zip(scene.frames, scene.seen)]
    monkeypatch.setattr("pc3d.lift.lifter._ENOUGH", 10 * (given[0][1].ids.nbytes + given[0][2].nbytes))
    lifter.extend(given)
    assert [len(counted.rows) for counted in lifter._counted[1:]] == [10, 10, 4]
    assert same(lifter.instances(), filled(scene).instances())


def test_frames_before_one_that_is_refused_count(scene):
    lifter, given = Lifter(scene.cloud), [(frame, truth(seen), None) for frame, seen in zip(scene.frames, scene.seen)]
    given[20] = (scene.frames[20], truth(scene.seen[20]), np.ones((3, 3), np.float32))
    with pytest.raises(DataError, match="frame 0020: the depth image has another size"):
        lifter.extend(given)
    assert same(lifter.instances(), filled(scene, slice(0, 20)).instances())


def test_votes_count_what_frames_see_by_mask_and_superpoint(scene):
    votes = filled(scene).votes()
    assert votes.counts.shape == (sum(len(truth(seen)) for seen in scene.seen), scene.cloud.superpoints.max() + 1)
    assert votes.visible.shape[0] == len(scene.frames)
    box_of_superpoint = np.zeros(votes.counts.shape[1], int)
    box_of_superpoint[scene.cloud.superpoints] = scene.cloud.instances
    row = 0
    for seen in scene.seen:
        for box in np.unique(seen[seen >= 0]):
            counts = votes.counts[row].toarray().ravel()
            assert counts[box_of_superpoint == box].sum() > 0.85 * counts.sum()
            row += 1
    assert (votes.visible.toarray() <= votes.sizes).all()


def test_images_are_not_kept_when_they_are_counted(scene):
    lifter, masks = Lifter(scene.cloud), truth(scene.seen[0])
    plane = weakref.ref(masks.ids)
    lifter.add(scene.frames[0], masks)
    del masks
    assert plane() is None
    assert lifter.votes().num_masks > 0


def test_masks_of_any_size_fall_on_the_same_points(scene):
    def lifted(scale):
        lifter = Lifter(scene.cloud)
        for frame, seen in zip(scene.frames, scene.seen):
            lifter.add(frame, truth(np.kron(seen, np.ones((scale, scale), int))))
        return lifter.votes().counts.toarray()
    assert np.array_equal(lifted(1), lifted(3))


def test_without_depth_the_scan_itself_hides_what_is_behind(scene):
    with_depth, without = filled(scene), Lifter(scene.cloud)
    for frame, seen in zip(scene.frames, scene.seen):
        without.add(replace(frame, read_depth=None), truth(seen))
    first, second = (lifter.votes().visible.toarray() for lifter in (with_depth, without))
    assert np.abs(first - second).sum() < 0.2 * first.sum()
    assert len(without.instances()) == len(with_depth.instances()) == 5


def test_far_from_the_origin_nothing_changes(scene):
    """Two points may fall to the other side of a pixel's border: poses were rounded at 500 km."""
    shift = np.array([5e5, -3e5, 100.0])
    lifter = Lifter(scene.cloud.replace(origin=shift))
    transform = np.eye(4)
    transform[:3, 3] = shift
    for frame, seen in zip(scene.frames, scene.seen):
        lifter.add(frame.moved(transform), truth(seen))
    expected = filled(scene).votes().counts
    assert abs(lifter.votes().counts - expected).sum() <= 1e-3 * expected.sum()


def test_frames_that_cannot_be_used_are_named_and_the_others_count(scene):
    def broken():
        raise FormatError("0001.png: the image cannot be read; got cut")
    frames = list(scene.frames)
    frames[1] = replace(frames[1], read_depth=broken)
    away = scene.look("0002", (50, 50, 1), (60, 50, 1))
    frames[2] = replace(away, read_depth=lambda: np.ones((60, 80), np.float32))

    class Masks:
        def __call__(self, frame):
            if frame.name == "0003":
                raise FormatError("masks/0003.png: the label map cannot be read; got x")
            return truth(scene.seen[int(frame.name)])

    found, lifter = lift(scene.cloud, frames, Masks())
    assert lifter.skipped == {"0001": "unreadable depth", "0002": "sees nothing of the scan",
                              "0003": "no masks: the label map cannot be read"}
    assert len(found) == 5
    assert lifter.votes().num_frames == 21


def test_a_frame_that_no_masks_were_given_for_is_left_out(scene):
    given = GivenMasks({frame.name: truth(seen) for frame, seen in list(zip(scene.frames, scene.seen))[1:]})
    _, lifter = lift(scene.cloud, scene.frames, given)
    assert lifter.skipped == {"0000": "no masks: no masks were given for the frame"}
    assert lifter.votes().num_frames == 23


@pytest.mark.filterwarnings("error")
def test_masks_and_depth_may_lie_in_memory_as_they_like(scene):
    expected, found = Lifter(scene.cloud), Lifter(scene.cloud)
    for frame, seen in zip(scene.frames, scene.seen):
        masks, depth = truth(seen), frame.depth
        expected.add(frame, masks, depth)
        ids, turned = masks.ids[:, ::-1].copy()[:, ::-1], depth[::-1].copy()[::-1]       # the same, from the last row on
        ids.flags.writeable = turned.flags.writeable = False
        found.add(frame, replace(masks, ids=ids), turned)
    assert same(found.instances(), expected.instances())


def test_no_usable_frame_points_to_the_check(scene):
    away = [frame.moved(np.block([[np.eye(3), np.full((3, 1), 90.0)], [0, 0, 0, 1]])) for frame in scene.frames[:3]]
    with pytest.raises(DataError, match=r"no frame sees the scan; got .*sees nothing of the scan.*The scan, \S+ x \S+ x "
                                        r"\S+ m, .* in metres.*pc3d frames check"):
        lift(scene.cloud, away, GivenMasks({f.name: truth(s) for f, s in zip(scene.frames, scene.seen)}))


def test_masks_of_other_frames_do_not_blame_the_poses(scene):
    with pytest.raises(DataError, match=r"^no frame can be used; got \{'0000': 'no masks: no masks were given.*\}$"):
        lift(scene.cloud, scene.frames[:1], GivenMasks({"0001": truth(scene.seen[1])}))


def test_bad_arguments_say_what_is_wrong(scene):
    with pytest.raises(DataError, match="lifting needs a scan with superpoints"):
        Lifter(scene.cloud.replace(superpoints=None))
    with pytest.raises(ConfigError, match="unknown way to associate masks; got 'magic'; expected consensus, region"):
        filled(scene, slice(0, 2)).instances("magic")
    lifter, labels = Lifter(scene.cloud), np.zeros(1, int)
    one = np.ones((1, 60, 80), bool)
    lifter.add(scene.frames[0], FrameMasks.from_masks(one, labels=labels, classes=("chair",)))
    with pytest.raises(DataError, match="frame 0001: all frames must name the same classes"):
        lifter.add(scene.frames[1], FrameMasks.from_masks(one, labels=labels, classes=("table",)))
    with pytest.raises(DataError, match=r"frame 0001: the depth image has another size .* got \(60, 79\); expected"):
        lifter.add(scene.frames[1], FrameMasks.empty(), scene.frames[1].depth[:, 1:])


def test_frames_without_masks_still_say_what_they_see(scene):
    lifter = Lifter(scene.cloud)
    lifter.add(scene.frames[0], FrameMasks.empty())
    assert lifter.votes().visible.sum() > 0
    for method in GROUPERS:
        assert len(lifter.instances(method)) == 0
