"""2D models, each as a tiny random checkpoint of its real architecture: loaded from a folder, run, read, lifted.

Random weights find nothing sensible: what is tested is that images go in as each model wants them and that what comes out is
read as it means; results with released weights are not tested here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from pc3d.errors import CheckpointError, ConfigError
from pc3d.lift import lift
from pc3d.lift.segmenters import (
    AutomaticOptions,
    CachedSegmenter,
    PromptedSegmenter,
    UniversalOptions,
    UniversalSegmenter,
    make_segmenter,
    prompted,
    universal,
)
from pc3d.lift.segmenters.checkpoint import prepare
from pc3d.lift.segmenters.prompted import box_iou, boxes_of, mask_iou, stability, suppress
from pc3d.lift.segmenters.universal import crop
from tests.lift.tiny_models import MAKERS, frame_of, noise

pytest.importorskip("transformers")

ALL = AutomaticOptions(points=4, batch=6, iou=-1e9, stability=0.0, nms=0.95)


def test_every_family_is_tested_here():
    assert set(MAKERS) == {*prompted.FAMILIES, *universal.FAMILIES}


@pytest.mark.parametrize("name", MAKERS)
def test_a_checkpoint_folder_is_loaded_and_lifted_to_instances(name, checkpoints, scene):
    everything = "points=3&iou=-9&stability=0" if name in prompted.FAMILIES else "score=0&mask=0&overlap=0"
    segmenter = make_segmenter(f"{name}:{checkpoints / name}?{everything}")
    found, lifter = lift(scene.cloud, scene.frames[:3], segmenter)
    votes = lifter.votes()
    assert votes.num_frames == 3
    assert votes.num_masks >= 3
    assert votes.counts.sum() > 0
    assert found.classes == (segmenter.classes or ("object",))
    assert (votes.labels >= 0).all() == (name in universal.FAMILIES)


@pytest.mark.parametrize("name", prompted.FAMILIES)
def test_channels_range_and_padding_are_what_the_model_was_made_for(name, checkpoints, monkeypatch):
    """Red must arrive as the first channel, in units of ImageNet's (or SAM 3's) deviations, padding as exact zeros."""
    segmenter, seen = PromptedSegmenter(name, str(checkpoints / name), options=ALL), []
    model = segmenter.checkpoint.model
    whole = model.get_image_embeddings
    monkeypatch.setattr(model, "get_image_embeddings", lambda pixels: seen.append(pixels) or whole(pixels))
    red = np.zeros((32, 64, 3), np.uint8)
    red[..., 0] = 255
    segmenter(frame_of(red))
    (pixels,) = seen
    mean, std = (torch.tensor(one) for one in segmenter.family.mean_std)
    expected = (torch.tensor([1.0, 0, 0]) - mean) / std
    size = segmenter.size
    assert pixels.shape == (1, 3, size, size)
    filled = pixels if segmenter.family.stretch else pixels[:, :, :size // 2]
    torch.testing.assert_close(filled.amin((0, 2, 3)), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(filled.amax((0, 2, 3)), expected, atol=1e-5, rtol=0)
    if not segmenter.family.stretch:
        assert (pixels[:, :, size // 2:] == 0).all()


@pytest.mark.parametrize("name", universal.FAMILIES)
def test_labelled_models_see_red_first_in_deviations_at_their_size(name, checkpoints, monkeypatch):
    segmenter, seen = UniversalSegmenter(name, str(checkpoints / name)), []
    model = segmenter.checkpoint.model
    whole = model.forward
    monkeypatch.setattr(model, "forward", lambda pixel_values, **more: seen.append(pixel_values) or whole(pixel_values, **more))
    red = np.zeros((30, 45, 3), np.uint8)
    red[..., 0] = 255
    segmenter(frame_of(red))
    (pixels,) = seen
    height, width = (43, 64) if name == "eomt" else (64, 96)      # EoMT: the longer side fills its square
    assert pixels.shape == (1, 3, 64, 64 if name == "eomt" else 96)
    expected = (torch.tensor([1.0, 0, 0]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(pixels[0, :, 0, 0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels[0, :, height - 1, width - 1], expected, atol=1e-5, rtol=0)
    assert (pixels[0, :, height:] == 0).all()


@pytest.mark.parametrize("name", prompted.FAMILIES)
def test_masks_cover_the_image_without_the_padding(name, checkpoints):
    segmenter = PromptedSegmenter(name, str(checkpoints / name), options=ALL)
    masks = segmenter(frame_of(noise(32, 64)))
    height, width = masks.ids.shape[1:]
    assert (height == width) == segmenter.family.stretch
    assert segmenter.family.stretch or height * 2 == width


@pytest.mark.parametrize("name", prompted.FAMILIES)
def test_points_and_boxes_prompt_one_object(name, checkpoints):
    segmenter = PromptedSegmenter(name, str(checkpoints / name), options=ALL)
    frame = frame_of(noise())
    assert len(segmenter.prompt(frame, points=np.array([[30, 20], [5, 5]]), labels=np.array([1, 0]))) == 1
    assert len(segmenter.prompt(frame, box=np.array([10, 10, 40, 30]))) == 1


@pytest.mark.parametrize("name", prompted.FAMILIES)
def test_a_point_beside_the_object_is_not_a_point_on_it(name, checkpoints):
    segmenter = PromptedSegmenter(name, str(checkpoints / name), options=ALL)
    image, points = segmenter.embed(noise()), np.array([[[0.3, 0.4], [0.6, 0.5]]])
    on, beside, alone = (segmenter._decode(image, some, np.array(labels))[0] for some, labels in (
        (points, [1, 1]), (points, [1, 0]), (points[:, :1], [1])))
    assert not torch.allclose(on, beside)
    assert not torch.allclose(alone, beside)


def test_filters_of_automatic_masks_are_honoured(checkpoints):
    source = str(checkpoints / "sam2")
    everything = PromptedSegmenter("sam2", source, options=ALL)(frame_of(noise()))
    assert len(PromptedSegmenter("sam2", source, options=replace(ALL, iou=1e9))(frame_of(noise()))) == 0
    assert len(PromptedSegmenter("sam2", source, options=replace(ALL, stability=1.1))(frame_of(noise()))) == 0
    assert 0 < len(PromptedSegmenter("sam2", source, options=replace(ALL, nms=0.3))(frame_of(noise()))) < len(everything)


def test_batches_of_prompts_change_nothing(checkpoints):
    source = str(checkpoints / "sam")
    one, many = (PromptedSegmenter("sam", source, options=replace(ALL, batch=batch))(frame_of(noise())) for batch in (1, 16))
    assert np.array_equal(one.ids, many.ids)
    np.testing.assert_allclose(one.scores, many.scores, atol=1e-5)


# ------------------------------------------------------------------------------------------------- boxes and suppression


def test_boxes_stability_and_suppression():
    masks = torch.zeros(4, 20, 30, dtype=torch.bool)
    masks[0, 2:12, 3:13] = masks[1, 2:12, 4:14] = masks[2, 15:18, 20:30] = True
    boxes = boxes_of(masks)
    assert boxes[:3].tolist() == [[3, 2, 13, 12], [4, 2, 14, 12], [20, 15, 30, 18]]
    assert (boxes[3, 2:] == boxes[3, :2]).all()
    scores = torch.tensor([0.8, 0.9, 0.5, 1.0])
    for iou in (box_iou(boxes), mask_iou(masks)):
        assert suppress(iou, scores, 0.7).tolist() == [1, 2]       # 90 of 110 pixels in common; empty ones never stay
        assert suppress(iou, scores, 0.85).tolist() == [1, 0, 2]
    logits = torch.tensor([[[-3.0, -0.5, 0.5, 3.0]], [[-3.0, -3.0, 3.0, 3.0]]])
    assert stability(logits).tolist() == pytest.approx([1 / 3, 1.0])


# ---------------------------------------------------------------------------------------- what transformers gets wrong


def queries(*masks, labels, sure=9.0, classes=3) -> tuple[torch.Tensor, torch.Tensor]:
    """Class and mask logits of queries that are sure of what they say."""
    class_logits = torch.zeros(len(masks), classes + 1)
    for row, label in enumerate(labels):
        class_logits[row, label] = sure
    return class_logits, torch.stack([torch.where(torch.as_tensor(mask), 6.0, -6.0) for mask in masks])


@pytest.fixture
def segmenter(checkpoints):
    return UniversalSegmenter("mask2former", str(checkpoints / "mask2former"))


def test_padding_is_cropped_so_that_borders_stay_where_they_are(segmenter):
    """640 x 480 becomes 800 x 1066, padded to 800 x 1088: uncropped, a border at column 576 would come back at 562."""
    segmenter.checkpoint.settings.update(size={"shortest_edge": 800, "longest_edge": 1333})
    size, padded = segmenter.sizes(480, 640)
    assert (size, padded) == ((800, 1067), (800, 1088))
    columns = (torch.arange(272) + 0.5) * 4                         # logits are a quarter of the padded image
    border = 576 / 640 * 1067
    logits = torch.where(columns[None, None] < border, 6.0, -6.0).expand(1, 200, 272)
    masks = segmenter.masks(queries(np.ones((1, 1), bool), labels=[1])[0], crop(logits, size, padded))
    height, width = masks.ids.shape[1:]
    found = (masks.ids[0] > 0).sum(axis=1).mean() / width * 640
    assert abs(found - 576) < 640 / width
    assert (height, width) == (200, 267)


def test_pixels_that_no_query_is_sure_of_stay_void(segmenter):
    quarter = np.zeros((20, 40), bool)
    quarter[:10, :20] = True
    masks = segmenter.masks(*queries(quarter, labels=[1]))
    assert masks.areas.tolist() == [200]
    assert masks.classes[masks.labels[0]] == "chair"
    assert len(segmenter.masks(*queries(np.zeros((20, 40), bool), labels=[1]))) == 0


def test_a_query_gives_one_mask_with_its_best_label_and_doubles_are_dropped(segmenter):
    left, right = np.zeros((20, 40), bool), np.zeros((20, 40), bool)
    left[:, :20], right[:, 20:] = True, True
    masks = segmenter.masks(*queries(left, right, left, labels=[1, 2, 2]))
    assert sorted(masks.areas.tolist()) == [400, 400]
    assert len(masks) == 2


def test_every_threshold_is_honoured(segmenter):
    class_logits, mask_logits = queries(np.ones((20, 40), bool), labels=[2], sure=1.0)    # p = e / (e + 3) = 0.475
    assert len(segmenter.masks(class_logits, mask_logits)) == 0
    segmenter.options = UniversalOptions(score=0.4)
    found = segmenter.masks(class_logits, mask_logits)
    assert found.scores[0] == pytest.approx(0.475 * torch.tensor(6.0).sigmoid().item(), abs=2e-3)
    segmenter.options = UniversalOptions(score=0.4, mask=0.999)
    assert len(segmenter.masks(class_logits, mask_logits)) == 0
    large, half = np.ones((20, 40), bool), np.zeros((20, 40), bool)
    half[:, :20] = True
    both = queries(half, large, labels=[1, 2])
    both[0][1, 2] = 4.0                                              # less sure: keeps the half that is left, too little of it
    segmenter.options = UniversalOptions()
    assert segmenter.masks(*both).areas.tolist() == [400]
    segmenter.options = UniversalOptions(overlap=0.4)
    assert segmenter.masks(*both).areas.tolist() == [400, 400]


def test_classes_can_be_left_out(checkpoints):
    segmenter = make_segmenter(f"mask2former:{checkpoints / 'mask2former'}?skip=wall")
    whole = np.ones((20, 40), bool)
    assert len(segmenter.masks(*queries(whole, labels=[0]))) == 0
    assert len(segmenter.masks(*queries(whole, labels=[1]))) == 1
    with pytest.raises(ConfigError, match="knows no such class; got floor; expected some of wall, chair, table"):
        make_segmenter(f"mask2former:{checkpoints / 'mask2former'}?skip=wall,floor")


def test_a_checkpoint_may_bring_thresholds_of_its_own(checkpoints, tmp_path):
    source = checkpoints / "mask2former"
    for file in source.iterdir():
        (tmp_path / file.name).symlink_to(file)
    settings = tmp_path / "preprocessor_config.json"
    content = json.loads((source / settings.name).read_text())
    settings.unlink()
    settings.write_text(json.dumps({**content, "masks": {"score": 0.2, "overlap": 0.6}}))
    assert make_segmenter(f"mask2former:{source}").options == UniversalOptions()
    assert make_segmenter(f"mask2former:{tmp_path}").options == UniversalOptions(score=0.2, overlap=0.6)
    assert make_segmenter(f"mask2former:{tmp_path}?score=0.4").options == UniversalOptions(score=0.4, overlap=0.6)
    for wrong in ({"score": "high"}, 3):
        settings.write_text(json.dumps({**content, "masks": wrong}))
        with pytest.raises(CheckpointError, match="these thresholds are none"):
            make_segmenter(f"mask2former:{tmp_path}")


def test_pixel_values_are_resized_normalised_and_padded():
    rgb = torch.zeros(4, 6, 3, dtype=torch.uint8)
    rgb[..., 2] = 255
    values = prepare(rgb, (8, 12), (16, 16), (0.5, 0.4, 0.3), (0.1, 0.2, 0.7))
    assert values.shape == (1, 3, 16, 16)
    torch.testing.assert_close(values[0, :, 3, 3], torch.tensor([-5.0, -2.0, 1.0]))
    assert (values[:, :, 8:] == 0).all()
    assert (values[:, :, :, 12:] == 0).all()


def test_oneformer_is_asked_for_everything_in_its_own_tokens(checkpoints, tmp_path):
    """Its task is a row of numbers with zeros after the text: CLIP's padding would be another task."""
    segmenter = UniversalSegmenter("oneformer", str(checkpoints / "oneformer"))
    task = segmenter._task["task_inputs"]
    words = ["".join(chr(ord("a") + (t - 2) % 26) for t in task[0, 1:18].tolist())]
    assert task.shape == (1, 77)
    assert words == ["thetaskispanoptic"]
    assert task[0, 18] == 1                      # end of the text
    assert (task[0, 19:] == 0).all()
    before = segmenter(frame_of(noise()))
    segmenter._task["task_inputs"] = task + 1
    segmenter.options = replace(segmenter.options, score=0.0, mask=0.0, overlap=0.0)
    other = segmenter(frame_of(noise()))
    segmenter._task["task_inputs"] = task
    assert not np.array_equal(segmenter(frame_of(noise())).scores, other.scores)
    assert before.classes == ("wall", "chair", "table")
    shutil.copytree(checkpoints / "oneformer", tmp_path / "mute", ignore=shutil.ignore_patterns("token*"))
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        make_segmenter(f"oneformer:{tmp_path / 'mute'}")


# ------------------------------------------------------------------------------------------------------ cache and faults


def test_a_cached_answer_is_given_without_the_model_and_a_damaged_one_is_made_again(tmp_path, checkpoints):
    inner, calls = make_segmenter(f"mask2former:{checkpoints / 'mask2former'}?score=0&overlap=0"), []
    cached = CachedSegmenter(lambda frame: calls.append(1) or inner(frame), tmp_path, "one")
    first, again = cached(frame_of(noise())), cached(frame_of(noise()))
    assert len(calls) == 1
    for name in ("ids", "scores", "labels"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.classes == again.classes == ("wall", "chair", "table")
    cached(frame_of(noise(seed=1)))
    CachedSegmenter(lambda frame: calls.append(1) or inner(frame), tmp_path, "two")(frame_of(noise()))
    assert len(calls) == 3
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert np.array_equal(cached(frame_of(noise())).ids, first.ids)
    assert len(calls) == 4


def test_other_weights_in_the_same_folder_are_asked_anew(tmp_path, checkpoints):
    from safetensors.torch import load_file, save_file
    folder, cache = tmp_path / "model", tmp_path / "cache"
    shutil.copytree(checkpoints / "mask2former", folder)
    for count in (1, 1, 2):
        if count == 2:
            trained = {name: 0.5 * values for name, values in load_file(folder / "model.safetensors").items()}
            save_file(trained, folder / "model.safetensors", metadata={"format": "pt"})
        make_segmenter(f"mask2former:{folder}?score=0", cache=cache)(frame_of(noise()))
        assert len(list(cache.iterdir())) == count


def test_checkpoints_that_are_not_what_they_are_called_are_refused(checkpoints, tmp_path, monkeypatch):
    def gated(source, name, **_):
        raise OSError("You are trying to access a gated repo.\nAsk first.")

    with pytest.raises(CheckpointError, match=r"of another model; got sam2; expected sam$"):
        make_segmenter(f"sam:{checkpoints / 'sam2'}")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        make_segmenter(f"eomt:{tmp_path}")
    with pytest.raises(CheckpointError, match=r"-sinth: .*what ships: mask2former-synth"):     # and the hub is not asked
        make_segmenter("mask2former:mask2former-sinth")
    monkeypatch.setattr("transformers.utils.cached_file", gated)
    with pytest.raises(CheckpointError, match=r"facebook/sam3: .*got You are trying .* a gated repo\. Ask first\.; expected"):
        make_segmenter("sam3:facebook/sam3")
    for text in ("{", "[" * 100_000, "\xff"):
        (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(CheckpointError, match=r"config\.json: the file is not"):
            make_segmenter(f"eomt:{tmp_path}")
    (tmp_path / "config.json").write_text((checkpoints / "eomt/config.json").read_text())
    with pytest.raises(CheckpointError, match="the checkpoint cannot be loaded"):
        make_segmenter(f"eomt:{tmp_path}")
    from safetensors.torch import load_file, save_file
    weights = load_file(checkpoints / "eomt/model.safetensors")
    weights.pop("class_predictor.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights; got no class_predictor\.weight"):
        make_segmenter(f"eomt:{tmp_path}")


def test_options_are_checked_by_name_and_type(checkpoints):
    with pytest.raises(ConfigError, match=r"unknown option; got 'text'; expected points, batch, iou, stability, nms"):
        make_segmenter(f"sam2:{checkpoints / 'sam2'}?text=chair")
    with pytest.raises(ConfigError, match="'points' is no number; got 'many'"):
        make_segmenter(f"sam:{checkpoints / 'sam'}?points=many")
    with pytest.raises(ConfigError, match="'look' is a count; got 0; expected 1 or more"):
        make_segmenter(f"sam2:{checkpoints / 'sam2_video'}?video=1&look=0")


def test_segmenters_are_imported_without_transformers():
    code = "import sys, pc3d.lift.segmenters; print([m for m in ('transformers', 'torchvision') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
