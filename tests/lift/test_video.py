"""Video models of SAM 2 and SAM 3, tiny and random: objects are followed as the models themselves would, in bounded memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pc3d.errors import CheckpointError, ConfigError, FileError
from pc3d.lift import lift
from pc3d.lift.segmenters import AutomaticOptions, PromptedSegmenter, VideoOptions, VideoSegmenter, make_segmenter
from pc3d.lift.segmenters.prompted import Found
from pc3d.lift.segmenters.video import TRACKERS
from tests.lift.tiny_models import frame_of, noise, transformers

SOURCES = dict(zip(TRACKERS, ("sam2_video", "sam3_whole"), strict=True))
EVERYTHING = "points=3&iou=-9&stability=0"


class Script(PromptedSegmenter):
    """Finds what it is told to, look by look: shares x0 y0 x1 y1 of the image."""

    def __init__(self, family, source, looks) -> None:
        super().__init__(family, source, options=AutomaticOptions())
        self.looks, self.asked = list(looks), 0

    def find(self, rgb):
        boxes = self.looks[min(self.asked, len(self.looks) - 1)]
        self.asked += 1
        masks = torch.zeros(len(boxes), 64, 64, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes):
            mask[int(64 * y0):int(64 * y1), int(64 * x0):int(64 * x1)] = True
        return Found(masks, torch.linspace(0.9, 0.8, len(boxes)), torch.full((len(boxes),), -1))


@pytest.fixture
def follow(checkpoints):
    """A segmenter whose looks are scripted."""
    def make(family, looks, **options) -> VideoSegmenter:
        source = str(checkpoints / SOURCES[family])
        return VideoSegmenter(family, source, Script(family, source, looks), options=VideoOptions(**options))
    return make


LEFT, RIGHT = (0.1, 0.2, 0.5, 0.7), (0.6, 0.1, 0.9, 0.9)


@pytest.mark.parametrize("family", SOURCES)
def test_an_object_is_followed_as_the_model_itself_follows_it(family, follow):
    """transformers' own pass over the whole video, nothing forgotten, must give the same masks in every frame."""
    segmenter = follow(family, [[LEFT]], look=100)
    frames = [frame_of(noise(seed=i)) for i in range(9)]
    model, logits = segmenter.checkpoint.model, []
    hook = model.register_forward_hook(lambda model, given, out: logits.append(out.pred_masks))
    masks = [segmenter(frame) for frame in frames]
    hook.remove()
    video = torch.cat([segmenter._prepare(frame.rgb) for frame in frames])
    session = getattr(transformers, segmenter._session)(video=video, dtype=torch.float32)
    side = video.shape[-1]
    given = torch.nn.functional.interpolate(Script.find(segmenter.finder, None).masks[:, None].float(), size=(side, side),
                                            mode="bilinear", antialias=True) >= 0.5
    session.add_mask_inputs(session.obj_id_to_idx(0), 0, given)
    session.obj_with_new_inputs = [0]
    for mine, here, out in zip(masks, logits, model.propagate_in_video_iterator(session, start_frame_idx=0), strict=True):
        torch.testing.assert_close(here, out.pred_masks, atol=1e-6, rtol=1e-5)
        assert mine.tracks.tolist() == [0]
        assert np.array_equal(mine.ids[0] > 0, (out.pred_masks[0, 0] > 0).numpy())
        assert mine.scores[0] == pytest.approx(0.9 * float(out.object_score_logits.sigmoid()), abs=1e-4)
    assert len({mine.ids.tobytes() for mine in masks}) > 5          # it moves


def test_memory_does_not_grow_with_the_sequence(follow):
    def held(segmenter) -> int:
        total, waiting = 0, [vars(track.session) for track in segmenter.tracks]
        while waiting:
            one = waiting.pop()
            total += one.numel() if isinstance(one, torch.Tensor) else 0
            total += len(one) if isinstance(one, dict | list) else 0
            waiting += list(one.values()) if isinstance(one, dict) else list(one) if isinstance(one, list | tuple) else []
        return total

    segmenter, sizes = follow("sam2", [[LEFT]], look=100), []
    for i in range(14):
        segmenter(frame_of(noise(seed=i)))
        sizes.append(held(segmenter))
    assert sizes[5] == sizes[13]
    assert sizes[1] < sizes[3]                      # so that it is counted at all


def test_new_objects_are_looked_for_now_and_then_where_nothing_is_held(follow, monkeypatch):
    def watch(looks, frames, **options) -> tuple[list[list[int]], int]:
        """Tracks of each frame, of objects that stay where they are, and how often was looked."""
        segmenter = follow("sam2", looks, **options)

        def stay(track, pixels) -> None:
            track.mask = torch.nn.functional.interpolate(track.mask[None, None].float(), size=(16, 16))[0, 0] > 0
            track.seen = segmenter._frame

        monkeypatch.setattr(segmenter, "_step", stay)
        return [segmenter(frame_of(noise())).tracks.tolist() for _ in range(frames)], segmenter.finder.asked

    assert watch([[LEFT], [LEFT, RIGHT]], 5, look=3) == ([[0], [0], [0], [0, 1], [0, 1]], 2)
    assert watch([[LEFT], [LEFT, RIGHT]], 4, look=3, tracks=1)[0][-1] == [0]
    wider = (0.1, 0.2, 0.6, 0.7)                    # a fifth of it is free
    assert watch([[LEFT, wider, RIGHT]], 1) == ([[0, 1]], 1)
    assert watch([[LEFT, wider, RIGHT]], 1, free=0.1) == ([[0, 1, 2]], 1)


def test_what_is_out_of_sight_has_no_mask_and_is_given_up_after_a_while(follow):
    segmenter = follow("sam2", [[LEFT], []], look=100, lost=3)
    head = segmenter.checkpoint.model.mask_decoder.pred_obj_score_head.proj_out.bias
    numbers = []
    for i in range(7):
        with torch.no_grad():
            head.fill_(10.0 if i in (0, 1, 3) else -10.0)           # gone in frame 2, back in 3, gone for good
        numbers.append((len(segmenter(frame_of(noise(seed=i)))), len(segmenter.tracks)))
    assert numbers == [(1, 1), (1, 1), (0, 1), (1, 1), (0, 1), (0, 1), (0, 0)]
    segmenter(frame_of(noise()))
    assert segmenter.finder.asked == 2              # with nothing left to follow it looks at once


def test_tracks_that_become_one_are_one(follow, monkeypatch):
    segmenter = follow("sam2", [[LEFT, RIGHT]], look=100)
    first = segmenter(frame_of(noise()))
    assert first.tracks.tolist() == [0, 1]

    def join(track, pixels) -> None:
        track.mask, track.seen = torch.ones(16, 16, dtype=torch.bool), segmenter._frame

    monkeypatch.setattr(segmenter, "_step", join)
    assert segmenter(frame_of(noise())).tracks.tolist() == [0]
    assert [track.number for track in segmenter.tracks] == [0]


def test_an_object_that_the_model_loses_at_once_keeps_the_mask_it_was_found_with(follow, monkeypatch):
    segmenter = follow("sam2", [[LEFT]])
    monkeypatch.setattr(segmenter, "_step", lambda track, pixels: None)
    masks = segmenter(frame_of(noise()))
    assert masks.ids.shape == (1, 16, 16)           # as all others of the model, whatever size it was found at
    assert masks.areas[0] > 0


@pytest.mark.parametrize("family", SOURCES)
def test_red_arrives_first_in_deviations_on_a_square(family, follow, monkeypatch):
    segmenter, seen = follow(family, [[LEFT]]), []
    model = segmenter.checkpoint.model
    encode = model.get_image_features
    monkeypatch.setattr(model, "get_image_features", lambda pixels, **more: seen.append(pixels) or encode(pixels, **more))
    red = np.zeros((32, 64, 3), np.uint8)
    red[..., 0] = 255
    segmenter(frame_of(red))
    (pixels,) = seen                                # one image is encoded once, for all objects
    mean, std = {"sam2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "sam3": ((0.5,) * 3, (0.5,) * 3)}[family]
    side = {"sam2": 64, "sam3": 56}[family]
    expected = (torch.tensor([1.0, 0, 0]) - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(pixels, expected.reshape(1, 3, 1, 1).expand(1, 3, side, side), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", SOURCES)
def test_a_sequence_is_lifted_with_its_tracks(family, checkpoints, scene):
    segmenter = make_segmenter(f"{family}:{checkpoints / SOURCES[family]}?video=1&look=3&{EVERYTHING}")
    assert segmenter.options == VideoOptions(look=3)
    assert segmenter.finder.options.points == 3
    unread = replace(scene.frames[2], name="torn", read_rgb=torn)
    _, lifter = lift(scene.cloud, [*scene.frames[:2], unread, *scene.frames[2:5]], segmenter)
    votes = lifter.votes()
    assert votes.num_frames == 5                    # the frame that cannot be read does not end the video
    assert "cannot be read" in lifter.skipped["torn"]
    assert votes.counts.sum() > 0
    assert (votes.tracks >= 0).all()
    assert len(votes.frame_of_mask[votes.tracks == 0]) > 1


def torn():
    raise FileError("torn.png: the image cannot be read")


def test_what_a_phrase_names_is_followed_under_that_name(checkpoints, scene):
    text = "text=chair,table&score=0&mask=0.3&nms=1"
    segmenter = make_segmenter(f"sam3:{checkpoints / 'sam3_whole'}?{text}&video=1&look=4&free=0.01&same=1")
    masks = [segmenter(frame) for frame in scene.frames[:4]]
    assert masks[0].classes == ("chair", "table")
    labels = {}
    for one in masks:
        for track, label in zip(one.tracks.tolist(), one.labels.tolist()):
            assert labels.setdefault(track, label) == label >= 0
    assert segmenter.finder.checkpoint.model.vision_encoder.backbone is segmenter.checkpoint.model.vision_encoder.backbone


def test_what_cannot_be_a_video_is_refused(checkpoints, tmp_path):
    with pytest.raises(CheckpointError, match=r"of another model; got sam2; expected sam2_video"):
        make_segmenter(f"sam2:{checkpoints / 'sam2'}?video=1")
    with pytest.raises(CheckpointError, match=r"got sam3_tracker; expected sam3_tracker_video or sam3_video"):
        make_segmenter(f"sam3:{checkpoints / 'sam3'}?video=1")
    with pytest.raises(ConfigError, match="each depends on all frames before it"):
        make_segmenter(f"sam2:{checkpoints / 'sam2_video'}?video=1", cache=tmp_path)
    with pytest.raises(ConfigError, match="unknown option; got 'video'"):
        make_segmenter(f"sam:{checkpoints / 'sam'}?video=1")
    assert isinstance(make_segmenter(f"sam2:{checkpoints / 'sam2_video'}?video=0"), PromptedSegmenter)
