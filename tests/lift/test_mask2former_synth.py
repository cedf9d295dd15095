"""tools/train_mask2former.py: what it teaches, that it goes on where it was stopped, and what it leaves behind."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pc3d.lift import FrameMasks
from pc3d.lift.segmenters import UniversalOptions, make_segmenter
from pc3d.weights import WEIGHTS

pytest.importorskip("transformers")
sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

import train_mask2former as script


@pytest.fixture
def quick(monkeypatch):
    """Frames of boxes instead of rooms, and steps that take no time."""
    monkeypatch.setattr(script, "room_frames", lambda seed, split, models: boxes(seed))
    monkeypatch.setattr(script, "STAGES", (script.Stage(0.5, (32, 64), 2, 1.5), script.Stage(1.0, (64, 64), 1, 1.2)))


def boxes(seed: int) -> np.ndarray:
    """Two frames (64, 96): on grey ground a red chair (class 2) at the left and a blue table (class 4) at the right."""
    frames = np.full((2, 64, 96, 5), [120, 120, 120, 0, 0], np.uint8)
    frames[:, 10 + seed % 9 : 50, 5:40] = [200, 20, 20, 3, 1]
    frames[:, 20:60, 50:90] = [20, 20, 200, 5, 2]
    return frames


def test_an_example_is_a_window_whose_masks_lie_on_what_they_name():
    for seed in range(20):
        example = script.make_example(boxes(0)[0], script.Stage(1.0, (48, 64), 1, 1.5), np.random.default_rng(seed))
        assert example.pixels.shape == (3, 48, 64)
        rgb = example.pixels * torch.tensor(script.STD).reshape(3, 1, 1) + torch.tensor(script.MEAN).reshape(3, 1, 1)
        assert rgb.min() > -1e-5
        assert rgb.max() < 1 + 1e-5
        assert len(example.labels) >= 1
        for mask, label in zip(example.masks.bool(), example.labels.tolist()):
            red, blue = rgb[0][mask].median(), rgb[2][mask].median()
            assert (red > blue + 0.1) if label == 2 else (label == 4 and blue > red + 0.1)


def test_frames_are_mirrored_half_of_the_time():
    stage = script.Stage(1.0, (64, 96), 1, 1.0)
    examples = [script.make_example(boxes(0)[0], stage, np.random.default_rng(seed)) for seed in range(40)]
    left = [bool(one.masks[one.labels == 2][..., :48].sum() > one.masks[one.labels == 2][..., 48:].sum()) for one in examples]
    assert 8 < sum(left) < 32


def test_a_stopped_training_goes_on_to_the_same_bits(quick, tmp_path, monkeypatch):
    options = script.Options(tmp_path / "whole", rooms=2, val_rooms=1, steps=4, every=2, warmup=2)
    whole = script.train(options)
    with monkeypatch.context() as patch:
        patch.setattr(script.Trainer, "rate", interrupted(script.Trainer.rate, at=3))
        with pytest.raises(KeyboardInterrupt):
            script.train(replace(options, run=tmp_path / "cut"))
    cut = script.train(replace(options, run=tmp_path / "cut"))
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()
    other = script.train(replace(options, run=tmp_path / "other", seed=1))
    assert (whole / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()
    lines = (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()
    assert sum('"pq"' in line for line in lines) == 2


def interrupted(rate, at):
    def stop(trainer):
        if trainer.step == at:
            raise KeyboardInterrupt
        return rate(trainer)
    return stop


def test_the_loss_falls_and_what_is_left_is_small_and_loads(quick, tmp_path):
    options = script.Options(tmp_path, rooms=2, val_rooms=1, steps=30, every=30, warmup=3)
    rooms = script.read_rooms(tmp_path / "frames", range(2), "train", None)
    losses = [record["loss"] for record in script.Trainer(options, rooms).steps()]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    trainer = script.Trainer(options, rooms)
    script.save_model(trainer.model, tmp_path / "model", (64, 96))
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 10e6
    segmenter = make_segmenter(f"mask2former:{tmp_path / 'model'}")
    for name, tensor in segmenter.checkpoint.model.state_dict().items():
        torch.testing.assert_close(tensor, trainer.model.state_dict()[name], rtol=1e-3, atol=1e-4)
    again = script.Trainer(replace(options, init=tmp_path / "model", seed=5), rooms).model.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in segmenter.checkpoint.model.state_dict().items())


def test_panoptic_quality_is_one_for_the_truth_and_falls_with_every_fault():
    room = boxes(0)

    def answers(change):
        ids, labels = room[0, ..., 4].astype(np.uint16)[None], np.array([2, 4])
        ids, labels = change(ids.copy(), labels)
        return lambda frame: FrameMasks(ids, np.ones(len(labels), np.float32), labels, script.SCANNET_CLASSES)

    def quality(change):
        return script.panoptic_quality(answers(change), [room])

    assert quality(lambda ids, labels: (ids, labels)) == {"pq": 1, "precision": 1, "recall": 1, "right_class": 1}
    assert quality(lambda ids, labels: (ids, labels[::-1])) == {"pq": 1, "precision": 1, "recall": 1, "right_class": 0}
    missing = quality(lambda ids, labels: (np.where(ids == 1, ids, 0).astype(np.uint16), labels[:1]))
    assert missing == {"pq": pytest.approx(2 / 3), "precision": 1, "recall": 0.5, "right_class": 1}
    cut = quality(lambda ids, labels: (np.where(np.arange(96) < 15, 0, ids).astype(np.uint16), labels))
    assert 0.8 < cut["pq"] < 0.95


def test_the_checkpoint_that_ships_is_small_and_finds_objects_in_a_room_never_trained_on():
    from transformers import logging

    level = logging.get_verbosity()
    segmenter = make_segmenter("mask2former:mask2former-synth")
    assert logging.get_verbosity() == level
    assert sum(file.stat().st_size for file in (WEIGHTS / "mask2former-synth").iterdir()) < 7e6
    assert segmenter.classes == script.SCANNET_CLASSES
    assert segmenter.options == UniversalOptions(**script.MASKS)
    quality = script.panoptic_quality(segmenter, [script.room_frames(10_003, "val", None)[::3]])
    assert quality["pq"] > 0.25
    assert quality["right_class"] > 0.5
