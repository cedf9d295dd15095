"""One object in 3D: every view is asked where the object is seen, never at what hides it, and only the object comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pc3d.errors import ConfigError, DataError, FileError
from pc3d.lift import FrameMasks, LiftConfig, Lifter, Pixels, Prompt, lift_prompt
from pc3d.lift.segmenters import GivenMasks, make_segmenter
from tests.lift.conftest import BOXES


class Truth:
    """Answers with the box that a pixel, or most of a rectangle, shows; remembers what it was asked."""

    def __init__(self, scene) -> None:
        self.seen = {frame.name: seen for frame, seen in zip(scene.frames, scene.seen)}
        self.asked: list[tuple[str, list[int]]] = []

    def prompt(self, frame, points=None, labels=None, box=None) -> FrameMasks:
        seen = self.seen[frame.name]
        if points is None:
            u0, v0, u1, v1 = np.rint(box).astype(int)
            shown = seen[v0:v1 + 1, u0:u1 + 1].ravel()
        else:
            u, v = np.rint(points).astype(int).T
            shown = seen[v, u]
        number = np.bincount(shown[shown >= 0]).argmax() if (shown >= 0).any() else -2
        self.asked.append((frame.name, shown.tolist()))
        return FrameMasks.from_masks((seen == number)[None], np.array([0.9]))


def top_of(scene, box: int) -> int:
    """Row of the point nearest to the middle of a box's upper side."""
    low, high = BOXES[box]
    return int(np.linalg.norm(scene.cloud.xyz - [*(low + high)[:2] / 2, high[2]], axis=1).argmin())


def iou(instance, scene, box: int) -> float:
    (mask,), truth = instance.point_masks, scene.cloud.instances == box
    return (mask & truth).sum() / (mask | truth).sum()


@pytest.mark.parametrize("box", range(len(BOXES)))
def test_a_click_on_the_scan_gives_the_object_there(scene, box):
    segmenter = Truth(scene)
    row = top_of(scene, box)
    found, lifter = lift_prompt(scene.cloud, scene.frames, segmenter, Prompt(clicks=(row,)))
    assert len(found) == 1
    assert found.point_masks[0, row]
    assert iou(found, scene, box) > 0.7
    assert 3 <= len(segmenter.asked) <= 8
    assert len(segmenter.asked) == found.evidence["num_frames"][0] == lifter.votes().num_frames
    assert {number for _, shown in segmenter.asked for number in shown} == {box}       # nowhere at what stands before it
    assert found.evidence["mask_score"][0] == pytest.approx(0.9)
    assert found.scores[0] > 0.35


def test_a_click_is_a_row_or_a_place_in_the_coordinates_of_the_file(scene):
    row, origin = top_of(scene, 1), np.array([4.5e5, 5.4e6, 300.0])
    cloud = scene.cloud.replace(origin=origin)
    shift = np.eye(4)
    shift[:3, 3] = origin
    frames = [frame.moved(shift) for frame in scene.frames]
    place = tuple(cloud.world_xyz[row] + [0.0, 0.0, 0.03])
    by_row, by_place, at_home = (lift_prompt(*given, Truth(scene), Prompt(clicks=(click,)))[0] for given, click in (
        ((cloud, frames), row), ((cloud, frames), place), ((scene.cloud, scene.frames), row)))
    assert np.array_equal(by_row.bits, by_place.bits)
    assert np.array_equal(by_row.bits, at_home.bits)


def test_views_are_spread_over_the_sequence_and_show_the_click_best(scene):
    def asked(views) -> list[str]:
        segmenter = Truth(scene)
        lift_prompt(scene.cloud, scene.frames, segmenter, Prompt(clicks=(row,)), views=views)
        return [name for name, _ in segmenter.asked]

    row = top_of(scene, 0)
    everywhere = asked(24)
    assert everywhere == sorted(everywhere)
    for name, stretch in zip(asked(3), np.array_split(everywhere, 3), strict=True):
        assert name in stretch
    (best,) = asked(1)
    at, near = scene.cloud.xyz[row], []
    for frame in scene.frames:
        if frame.name in everywhere:
            there = at - frame.T_world_camera[:3, 3]
            ((u, v),) = frame.camera.project(there[None] @ frame.T_world_camera[:3, :3])
            near.append((frame.name, max(abs(u - 39.5) / 40, abs(v - 29.5) / 30), np.linalg.norm(there)))
    chosen = next(one for one in near if one[0] == best)
    assert not any(aside < chosen[1] and away < chosen[2] for _, aside, away in near)     # none is nearer and more central


@pytest.mark.parametrize("with_depth", [True, False])
def test_points_and_boxes_on_a_frame_give_the_object_they_show(scene, with_depth):
    frames = scene.frames if with_depth else [replace(frame, read_depth=None) for frame in scene.frames]
    frame, seen = frames[5], scene.seen[5]
    box = int(np.bincount(seen[seen >= 0]).argmax())
    v, u = np.nonzero(seen == box)
    middle = np.argmin(np.hypot(v - v.mean(), u - u.mean()))
    by_point = Prompt(points=(Pixels(frame.name, (float(u[middle]), float(v[middle]))),))
    by_box = Prompt(box=Pixels(frame.name, (float(u.min()), float(v.min()), float(u.max()), float(v.max()))))
    for prompt in (by_point, by_box):
        segmenter = Truth(scene)
        found, _ = lift_prompt(scene.cloud, frames, segmenter, prompt)
        assert segmenter.asked[0][0] == frame.name
        assert 5 <= len(segmenter.asked) <= 9                               # the frame itself, and others
        assert iou(found, scene, box) > 0.7


def test_a_frame_of_several_cameras_is_named_with_its_folder_where_it_must_be(scene):
    names = ["cam0/1", "cam1/1", "cam1/2", *(frame.name for frame in scene.frames[3:])]
    frames = [replace(frame, name=name) for frame, name in zip(scene.frames, names)]
    scene = replace(scene, frames=frames)
    for i, given in enumerate(("cam0/1", "cam1/1", "2")):
        segmenter = Truth(scene)
        v, u = np.median(np.argwhere(scene.seen[i] == np.bincount(scene.seen[i][scene.seen[i] >= 0]).argmax()), axis=0)
        lift_prompt(scene.cloud, frames, segmenter, Prompt(points=(Pixels(given, (u, v)),)))
        assert segmenter.asked[0][0] == names[i]
    for twice, words in ((frames, "got 1; expected one of cam0/1, cam1/1$"), ([frames[2]] * 2, "cam1/2, cam1/2$")):
        with pytest.raises(DataError, match=f"several frames have that name; .*{words}"):
            lift_prompt(scene.cloud, twice, Truth(scene), Prompt(points=(Pixels("1" if twice is frames else "2", (5, 5)),)))
    with pytest.raises(DataError, match=r"no such frame; got 3; expected one of cam0/1, cam1/1, cam1/2, 0003, 0004, \.\.\."):
        lift_prompt(scene.cloud, frames, Truth(scene), Prompt(points=(Pixels("3", (5, 5)),)))


def test_several_clicks_are_asked_together(scene):
    segmenter = Truth(scene)
    low, high = BOXES[0]
    corners = [(low[0] + 0.1, low[1] + 0.1, high[2]), (high[0] - 0.1, high[1] - 0.1, high[2])]
    lift_prompt(scene.cloud, scene.frames, segmenter, Prompt(clicks=tuple(corners)))
    assert max(len(shown) for _, shown in segmenter.asked) == 2


class Unsure(Truth):
    """Takes the box that is pointed at and box 4 for one thing, until it is told that box 4 is not of it."""

    def prompt(self, frame, points=None, labels=None, box=None) -> FrameMasks:
        labels = np.ones(len(points), int) if labels is None else labels
        seen, (u, v) = self.seen[frame.name], np.rint(points).astype(int).T
        inside, outside = (set(seen[v[labels == label], u[labels == label]].tolist()) for label in (1, 0))
        self.asked.append((frame.name, sorted(outside)))
        return FrameMasks.from_masks(np.isin(seen, list((inside | {4}) - outside))[None], np.array([0.9]))


def test_what_is_said_not_to_be_of_the_object_is_shown_to_the_model_and_left_out(scene):
    """Boxes 3 and 4 as near as one thing: a gap of up to 1.2 m does not part them."""
    row, other, config = top_of(scene, 3), top_of(scene, 4), LiftConfig(gap_distance=1.2)
    both, _ = lift_prompt(scene.cloud, scene.frames, Unsure(scene), Prompt((row,)), config=config)
    assert both.point_masks[0, scene.cloud.instances == 4].all()
    for prompt in (Prompt((row,), not_clicks=(other,)), Prompt((row,), not_clicks=(tuple(scene.cloud.world_xyz[other]),)),
                   Prompt((row,), not_points=(pixel_of(scene, other, 4),))):
        segmenter = Unsure(scene)
        found, _ = lift_prompt(scene.cloud, scene.frames, segmenter, prompt, config=config)
        assert not found.point_masks[0, scene.cloud.instances == 4].any()
        assert iou(found, scene, 3) > 0.8 > iou(both, scene, 3)
        told = [outside for _, outside in segmenter.asked]
        assert {number for outside in told for number in outside} == {4}    # never what hides it
        assert sum(map(len, told)) >= 2


def pixel_of(scene, row: int, box: int) -> Pixels:
    """Where the first frame that sees a point of a box shows it."""
    for frame, seen in zip(scene.frames, scene.seen):
        pose = frame.T_world_camera
        ((u, v),) = np.rint(frame.camera.project((scene.cloud.xyz[[row]] - pose[:3, 3]) @ pose[:3, :3]))
        if 0 <= u < 80 and 0 <= v < 60 and seen[int(v), int(u)] == box:
            return Pixels(frame.name, (float(u), float(v)))
    raise AssertionError


def test_a_point_beside_the_object_is_asked_in_its_own_frame_with_the_point_on_it(scene):
    frame, seen = next((frame, seen) for frame, seen in zip(scene.frames, scene.seen)
                       if min((seen == 3).sum(), (seen == 4).sum()) > 20)
    def pixel(box):
        v, u = np.nonzero(seen == box)
        middle = np.argmin(np.hypot(v - v.mean(), u - u.mean()))
        return Pixels(frame.name, (float(u[middle]), float(v[middle])))
    segmenter = Unsure(scene)
    lift_prompt(scene.cloud, scene.frames, segmenter, Prompt(points=(pixel(3),), not_points=(pixel(4),)))
    assert segmenter.asked[0] == (frame.name, [4])


def test_a_superpoint_said_not_to_be_of_the_object_is_left_out_whatever_the_masks_say(scene):
    row = top_of(scene, 0)
    whole, _ = lift_prompt(scene.cloud, scene.frames, Truth(scene), Prompt((row,)))
    owner = scene.cloud.superpoints
    side = next(int(point) for point in np.flatnonzero(whole.point_masks[0]) if owner[point] != owner[row])

    class Deaf(Truth):
        def prompt(self, frame, points=None, labels=None, box=None) -> FrameMasks:
            return super().prompt(frame, points if labels is None else points[labels == 1], None, box)

    found, _ = lift_prompt(scene.cloud, scene.frames, Deaf(scene), Prompt((row,), not_clicks=(side,)))
    assert found.point_masks[0, row]
    assert not found.point_masks[0, owner == owner[side]].any()
    same, _ = lift_prompt(scene.cloud, scene.frames, Deaf(scene), Prompt((row,), not_clicks=(row,)))
    assert same.point_masks[0, row]             # its own superpoint is as fine as it goes


def test_views_in_which_nothing_is_found_have_no_say(scene):
    row, everywhere = top_of(scene, 0), Truth(scene)
    lift_prompt(scene.cloud, scene.frames, everywhere, Prompt(clicks=(row,)))
    shown = {name for name, _ in everywhere.asked[-2:]}                     # of seven views; the others find nothing

    class Mostly(Truth):
        def prompt(self, frame, points=None, labels=None, box=None) -> FrameMasks:
            found = super().prompt(frame, points, labels, box)
            return found if frame.name in shown else replace(found, ids=np.zeros_like(found.ids))

    found, _ = lift_prompt(scene.cloud, scene.frames, Mostly(scene), Prompt(clicks=(row,)))
    assert found.evidence["num_frames"][0] == 2
    assert found.point_masks[0, row]


def test_frames_that_cannot_be_read_are_left_out(scene):
    def torn():
        raise FileError("torn")

    row = top_of(scene, 2)
    segmenter = Truth(scene)
    lift_prompt(scene.cloud, scene.frames, segmenter, Prompt(clicks=(row,)), views=4)
    bad = segmenter.asked[0][0]
    frames = [replace(frame, read_depth=torn) if frame.name == bad else frame for frame in scene.frames]
    again = Truth(scene)
    _, lifter = lift_prompt(scene.cloud, frames, again, Prompt(clicks=(row,)), views=4)
    assert lifter.skipped == {bad: "unreadable depth"}
    assert bad not in {name for name, _ in again.asked}


def test_a_model_of_the_sam_family_is_asked(scene, checkpoints):
    segmenter = make_segmenter(f"sam2:{checkpoints / 'sam2'}")
    asked, prompt = [], segmenter.prompt

    def whole(frame, points=None, labels=None, box=None):
        asked.append(prompt(frame, points, labels, box))
        return FrameMasks.from_masks(np.ones((1, 8, 8), bool), asked[-1].scores)       # random masks agree on nothing

    segmenter.prompt = whole
    found, _ = lift_prompt(scene.cloud, scene.frames, segmenter, Prompt(clicks=(top_of(scene, 0),)), views=2)
    assert len(found) == 1
    assert [one.ids.shape for one in asked] == [(1, 16, 16)] * 2
    assert found.evidence["mask_score"][0] == pytest.approx(np.mean([one.scores[0] for one in asked]), abs=1e-5)


def test_a_pixel_that_the_depth_image_does_not_reach_has_no_depth(scene):
    """The depth camera sees the middle of the colour image only; the pixel at its border is not taken for the one asked."""
    frame = scene.frames[0]
    camera = replace(frame.depth_camera, width=40, cx=frame.depth_camera.cx - 20)
    narrow = replace(frame, depth_camera=camera, read_depth=lambda: frame.depth[:, 20:60])
    with pytest.raises(DataError, match=r"no depth at the pixel; got \[17\.0, 30\.0\]"):
        lift_prompt(scene.cloud, [narrow], Truth(scene), Prompt(points=(Pixels(frame.name, (17.0, 30.0)),)))


def test_nothing_is_seen_where_there_is_no_depth(scene):
    """Near a camera, points of a coarse scan that stands for depth lie within what is allowed of no depth at all."""
    lifter = Lifter(scene.cloud)
    frame = scene.frames[0]
    lifter.depth_of = lambda frame, depth: (frame.camera, torch.zeros(60, 80), 0.5)
    before = frame.T_world_camera[:3, 3] + 0.2 * frame.T_world_camera[:3, 2]
    assert not lifter.sees(frame, before[None]).any()


def test_prompts_that_mean_nothing_are_said(scene):
    def ask(prompt, segmenter=None, frames=None):
        return lift_prompt(scene.cloud, frames or scene.frames, segmenter or Truth(scene), prompt)

    with pytest.raises(DataError, match=r"off the scan; got 1\.00 m to its nearest point; expected up to 0\.1 m"):
        ask(Prompt(clicks=((5.0, 1.0, 1.0),)))
    with pytest.raises(DataError, match=r"no such point in the scan; got 999999; expected 0 to"):
        ask(Prompt(clicks=(999999,)))
    with pytest.raises(DataError, match="a place in space"):
        ask(Prompt(clicks=((1.0, np.nan, 1.0),)))
    with pytest.raises(DataError, match="no such frame; got 77; expected one of 0000, 0001"):
        ask(Prompt(points=(Pixels("77", (1.0, 1.0)),)))
    with pytest.raises(DataError, match=r"outside the image; got \(80\.0, 5\.0\); expected 80 x 60"):
        ask(Prompt(points=(Pixels("0003", (80.0, 5.0)),)))
    with pytest.raises(ConfigError, match="nothing says which object"):
        ask(Prompt())
    with pytest.raises(ConfigError, match="nothing says which object"):
        ask(Prompt(not_clicks=(0,)))
    with pytest.raises(ConfigError, match=r"cannot be asked for one object; got GivenMasks"):
        ask(Prompt(clicks=(0,)), GivenMasks({}))
    blind = scene.look("up", (2.0, 1.7, 1.0), (2.0, 1.71, 2.4))
    with pytest.raises(DataError, match=r"no frame sees what was clicked on; got 1 frames"):
        ask(Prompt(clicks=(top_of(scene, 0),)), frames=[blind])
    dark = replace(scene.frames[0], read_depth=lambda: np.zeros((60, 80), np.float32))
    with pytest.raises(DataError, match=r"no depth at the pixel; got \[40\.0, 30\.0\]"):
        ask(Prompt(points=(Pixels(dark.name, (40.0, 30.0)),)), frames=[dark])
    with pytest.raises(ConfigError, match="some view must be asked; got 0"):
        lift_prompt(scene.cloud, scene.frames, Truth(scene), Prompt(clicks=(0,)), views=0)
    with pytest.raises(DataError, match=r"frame 0003: these are no pixels; got \(1\.0, 2\.0, 3\.0\)"):
        ask(Prompt(points=(Pixels("0003", (1.0, 2.0, 3.0)),)))
    silent = Truth(scene)
    silent.prompt = lambda frame, *rest: FrameMasks.empty(60, 80)
    with pytest.raises(DataError, match=r"no part of the scan in common; got \d views, 0 masks"):
        ask(Prompt(clicks=(top_of(scene, 0),)), silent)
    with pytest.raises(DataError, match="hold no part of the scan in common"):
        ask(Prompt(clicks=(int(np.flatnonzero(scene.cloud.instances < 0)[0]),)))      # the truth has no mask for the room
