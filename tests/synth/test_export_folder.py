"""A synthetic room as a plain folder of posed frames: what is read back is what was seen, and its masks lift to its objects."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d import io
from pc3d.lift import lift
from pc3d.lift.segmenters import make_segmenter
from pc3d.metrics import ClassAgnosticAP
from pc3d.superpoints import complete
from pc3d.synth import SCANNET_CLASSES, ScannerConfig, make_views, write_dataset

pytestmark = pytest.mark.usefixtures("open3d")
CONFIG = ScannerConfig(width=128, height=96, stations=6, views=8, voxel_size=0.04, min_instance_points=30, noise=0, partial=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    (place,) = write_dataset(tmp_path_factory.mktemp("rooms"), 1, 1, config=CONFIG, layout="frames")
    return place


def test_frames_are_read_back_as_they_were(folder):
    _, views = make_views(1, config=CONFIG)
    frames = io.read_frames(folder / "frames")
    assert frames.layout == "folder"
    assert len(frames) == len(views)
    for got, view in zip(frames, views):
        assert np.array_equal(got.rgb, view.frame.rgb)
        assert np.allclose(got.depth, view.frame.depth, atol=5.1e-4)
        assert np.allclose(got.T_world_camera, view.frame.T_world_camera)
        assert np.allclose(got.camera.matrix, view.frame.camera.matrix)


def test_masks_lift_to_the_labelled_objects_of_the_scan(folder):
    scan = io.read(folder / "scan.ply")
    found, lifter = lift(complete(scan), io.read_frames(folder / "frames"), make_segmenter(f"masks:{folder / 'masks'}"))
    assert lifter.skipped == {}
    metric = ClassAgnosticAP(SCANNET_CLASSES, "objects")
    metric.add(scan.labels, scan.instances, found)
    assert metric.result().ap50 > 0.9
    names = {SCANNET_CLASSES[label] for label in scan.labels[scan.labels >= 0]}
    assert {found.classes[label] for label in found.labels} <= names
