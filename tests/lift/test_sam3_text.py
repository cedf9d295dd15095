"""SAM 3 by text, on a tiny random checkpoint laid out as the released one: phrases in, labelled masks and instances out."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from pc3d.errors import CheckpointError, ConfigError
from pc3d.lift import lift
from pc3d.lift.segmenters import AutomaticOptions, ConceptOptions, ConceptSegmenter, PromptedSegmenter, make_segmenter
from tests.lift.tiny_models import frame_of, noise, save_tokenizer, transformers

ALL = ConceptOptions(text="chair,dining table", score=0.0, mask=0.0, nms=1.0)


@pytest.fixture(scope="module")
def source(checkpoints) -> str:
    return str(checkpoints / "sam3_whole")


def test_phrases_are_lifted_as_labels(source, scene):
    segmenter = make_segmenter(f"sam3:{source}?text=chair,dining table&score=0&mask=0.3&nms=1")
    found, lifter = lift(scene.cloud, scene.frames[:3], segmenter)
    votes = lifter.votes()
    assert found.classes == ("chair", "dining table")
    assert set(votes.labels) == {0, 1}
    assert votes.counts.sum() > 0
    assert found.evidence["label_votes"].shape == (len(found), 2)


def test_each_phrase_finds_what_the_model_itself_finds_for_it(source):
    """Image and texts are encoded once here; the model on pixels and tokens must say the same, phrase by phrase."""
    segmenter = ConceptSegmenter(source, options=ALL)
    seen = []
    model = segmenter.checkpoint.model
    encode = model.get_vision_features
    model.get_vision_features = lambda pixels: seen.append(pixels) or encode(pixels)
    found = segmenter.find(noise())
    tokens = transformers.AutoTokenizer.from_pretrained(source)
    for label, phrase in enumerate(segmenter.classes):
        text = tokens(phrase, padding="max_length", max_length=32, return_tensors="pt")
        with torch.no_grad():
            out = model(pixel_values=seen[0], **text)
        scores = (out.pred_logits.sigmoid() * out.presence_logits.sigmoid())[0]
        rows = found.labels == label
        torch.testing.assert_close(found.scores[rows], scores.sort(descending=True).values, atol=1e-6, rtol=1e-5)
    assert found.masks.shape[1:] == out.pred_masks.shape[2:]


def test_red_arrives_first_in_halves_on_a_square(source, monkeypatch):
    segmenter, seen = ConceptSegmenter(source, options=ALL), []
    model = segmenter.checkpoint.model
    encode = model.get_vision_features
    monkeypatch.setattr(model, "get_vision_features", lambda pixels: seen.append(pixels) or encode(pixels))
    red = np.zeros((32, 64, 3), np.uint8)
    red[..., 0] = 255
    segmenter(frame_of(red))
    expected = torch.tensor([1.0, -1.0, -1.0]).reshape(1, 3, 1, 1).expand(1, 3, 56, 56)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=0)


def test_thresholds_are_honoured_and_one_object_bears_one_phrase(source):
    segmenter = ConceptSegmenter(source, options=ALL)
    found = segmenter.find(noise())
    assert len(found.scores) == 12                                  # six queries for each phrase
    middle = float(found.scores.median())
    for options, number in ((replace(ALL, score=middle), int((found.scores >= middle).sum())), (replace(ALL, score=1.1), 0),
                            (replace(ALL, mask=1.1), 0), (replace(ALL, nms=0.99), 1)):     # at mask=0 all are the whole image
        segmenter.options = options
        masks = segmenter(frame_of(noise()))
        assert len(masks) == number
    assert masks.labels[0] == int(found.labels[found.scores.argmax()])


def test_the_whole_of_sam3_also_finds_everything_without_text(source):
    options = AutomaticOptions(points=3, iou=-1e9, stability=0.0)
    assert len(PromptedSegmenter("sam3", source, options=options)(frame_of(noise()))) > 0


@pytest.mark.parametrize("text", ["", "chair,", "chair,chair"])
def test_no_phrases_are_refused(source, text):
    with pytest.raises(ConfigError, match=r"no phrases to look for.*text=chair,dining table"):
        make_segmenter(f"sam3:{source}?text={text}")


def test_checkpoints_that_cannot_read_are_refused(checkpoints, source, tmp_path):
    with pytest.raises(CheckpointError, match="of another model; got sam3_tracker; expected sam3 or sam3_video"):
        make_segmenter(f"sam3:{checkpoints / 'sam3'}?text=chair")
    with pytest.raises(ConfigError, match=r"too long for the model.*expected up to 32"):
        make_segmenter(f"sam3:{source}?text=anextremelylongwordforsuchatinytokenizer")
    shutil.copytree(source, tmp_path / "copy", ignore=shutil.ignore_patterns("token*"))
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        make_segmenter(f"sam3:{tmp_path / 'copy'}?text=chair")
    save_tokenizer(tmp_path / "copy", first=30)
    with pytest.raises(CheckpointError, match="the tokenizer is another model's; got token 73; expected below 60"):
        make_segmenter(f"sam3:{tmp_path / 'copy'}?text=chair")
    (tmp_path / "copy/tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="the tokenizer cannot be used"):
        make_segmenter(f"sam3:{tmp_path / 'copy'}?text=chair")
