"""Masks without a model: even colour and unbroken surface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pc3d.errors import ConfigError
from pc3d.lift import FusionConfig
from pc3d.lift.segmenters import make_segmenter
from pc3d.structures import Camera, Frame

CAMERA = Camera(80, 60, 60.0, 60.0, 39.5, 29.5)


def test_patches_are_believed_far_less_than_objects() -> None:
    frame = Frame("0", CAMERA, CAMERA, np.eye(4), lambda: np.full((60, 80, 3), 128, np.uint8), floor_and_box)
    scores = make_segmenter("regions:felzenszwalb")(frame).scores
    assert len(scores) == 2
    assert (scores < FusionConfig().sure / 2).all()


def segmented(rgb, depth, options="") -> np.ndarray:
    """The label map (60, 80) of one frame."""
    frame = Frame("0", CAMERA, CAMERA, np.eye(4), lambda: rgb, None if depth is None else lambda: depth)
    masks = make_segmenter(f"regions:felzenszwalb?smallest=20{options}")(frame)
    assert masks.ids.shape == (1, 60, 80)
    return masks.ids[0]


def floor_and_box() -> np.ndarray:
    """A floor that runs away from the camera, and a box in front of it."""
    slanted = np.broadcast_to(1.5 / (0.2 + np.linspace(0, 1, 60)[:, None]), (60, 80)).astype(np.float32).copy()
    slanted[20:40, 30:50] = 0.8
    return slanted


def test_colours_part_an_image_without_depth() -> None:
    rgb = np.full((60, 80, 3), 40, np.uint8)
    rgb[:, 40:] = 220
    ids = segmented(rgb, None, "&blur=0")
    assert len(np.unique(ids)) == 2
    assert ids[30, 5] != ids[30, 75]


def test_depth_parts_what_is_of_one_colour_and_a_slanted_floor_stays_whole() -> None:
    rgb = np.full((60, 80, 3), 128, np.uint8)
    ids = segmented(rgb, floor_and_box())
    assert len(np.unique(ids)) == 2
    assert len(np.unique(ids[22:38, 32:48])) == 1
    assert ids[30, 40] != ids[50, 10] == ids[5, 70]


def test_depth_of_a_camera_that_sees_less_lies_where_it_was_seen() -> None:
    """The depth camera sees the middle half of the image; the box, a quarter of that, keeps its place and size."""
    camera = replace(CAMERA, width=40, height=30, cx=19.5, cy=14.5)
    depth = np.full((30, 40), 2.0, np.float32)
    depth[8:23, 10:30] = 0.8
    rgb = np.full((60, 80, 3), 128, np.uint8)
    frame = Frame("0", CAMERA, camera, np.eye(4), lambda: rgb, lambda: depth)
    ids = make_segmenter("regions:felzenszwalb?smallest=20")(frame).ids[0]
    box = ids == ids[30, 40]
    expected = np.zeros((60, 80), bool)
    expected[23:38, 30:50] = True
    assert (box & expected).sum() > 0.85 * (box | expected).sum()


def test_missing_depth_parts_nothing() -> None:
    depth = np.full((60, 80), 2.0, np.float32)
    depth[25:35] = 0
    assert len(np.unique(segmented(np.full((60, 80, 3), 128, np.uint8), depth))) == 1


def test_options_are_named_and_other_algorithms_are_not_known() -> None:
    with pytest.raises(ConfigError, match="unknown option"):
        make_segmenter("regions:felzenszwalb?size=3")
    for option in ("jump=0", "scale=-1", "scale=0", "scale=nan", "blur=inf", "blur=-1"):
        with pytest.raises(ConfigError, match="above 0"):
            make_segmenter(f"regions:felzenszwalb?{option}")
    with pytest.raises(ConfigError, match="regions:felzenszwalb"):
        make_segmenter("regions:watershed")
