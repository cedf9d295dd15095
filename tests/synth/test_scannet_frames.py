"""A synthetic ScanNet scene with its frames: the .sens file and the 2D instances lift back to the objects of the mesh."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from pc3d import io
from pc3d.lift import lift
from pc3d.lift.segmenters import make_segmenter
from pc3d.metrics import ClassAgnosticAP
from pc3d.superpoints import compute_superpoints
from pc3d.synth import SCANNET_CLASSES, ScannerConfig, make_scene, make_views, write_dataset

pytestmark = pytest.mark.usefixtures("open3d")
CONFIG = ScannerConfig(width=128, height=96, stations=6, views=8, voxel_size=0.04, min_instance_points=30, noise=0, partial=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    (place,) = write_dataset(tmp_path_factory.mktemp("raw"), 1, 1, config=CONFIG, layout="scannet-frames")
    return place


def test_the_scene_is_the_one_without_frames(folder):
    mesh, scene = io.read(folder / f"{folder.name}_vh_clean_2.ply"), make_scene(1, config=CONFIG)
    assert np.array_equal(mesh.xyz, scene.xyz)
    assert {path.name.removeprefix(folder.name) for path in folder.iterdir()} >= {
        ".sens", "_2d-instance-filt.zip", "_2d-label-filt.zip", ".aggregation.json"}


def test_frames_and_2d_instances_lift_to_the_objects_of_the_mesh(folder):
    scene, views = make_views(1, config=CONFIG)
    mesh = io.read(folder / f"{folder.name}_vh_clean_2.ply")
    frames = io.read_frames(folder / f"{folder.name}.sens")
    assert len(frames) == len(views)
    assert (frames[0].camera.width, frames[0].depth.shape) == (128, (96, 128))
    masks = make_segmenter(f"masks:{folder / f'{folder.name}_2d-instance-filt.zip'}")
    found, lifter = lift(compute_superpoints(mesh), frames, masks)
    assert lifter.skipped == {}
    metric = ClassAgnosticAP(SCANNET_CLASSES, "objects")
    metric.add(scene.labels, scene.instances, found)
    assert metric.result().ap50 > 0.9


def test_label_images_hold_ids_of_the_label_map(folder):
    pytest.importorskip("PIL.Image")
    names = {int(row.split("\t")[0]): row.split("\t")[1]
             for row in (folder.parent.parent / "scannetv2-labels.combined.tsv").read_text().splitlines()[1:]}
    with zipfile.ZipFile(folder / f"{folder.name}_2d-label-filt.zip") as archive:
        from PIL import Image
        seen = set()
        for name in archive.namelist():
            with archive.open(name) as file:
                seen |= set(np.unique(np.asarray(Image.open(file))).tolist())
    labels = np.unique(make_scene(1, config=CONFIG).labels)
    assert {names[number] for number in seen - {0}} == {SCANNET_CLASSES[label] for label in labels if label >= 0}
