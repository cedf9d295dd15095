"""A data set on disk can be stopped, resumed and made by any number of workers."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from pc3d import io
from pc3d.data.pointcept import read_pointcept
from pc3d.data.recipes import open_recipe
from pc3d.errors import ConfigError
from pc3d.synth import SCANNET_CLASSES, ScannerConfig, make_scene, write_dataset

pytestmark = pytest.mark.usefixtures("open3d")

TINY = ScannerConfig(width=96, height=72, stations=3, views=8, voxel_size=0.06, min_instance_points=20, max_label_distance=0.08)


def test_data_set_holds_what_the_network_needs_and_resumes(tmp_path):
    done = []
    paths = write_dataset(tmp_path, 2, seed=3, split="val", config=TINY, progress=lambda i, n: done.append((i, n)))
    assert done == [(1, 2), (2, 2)]
    assert json.loads((tmp_path / "classes.json").read_text()) == list(SCANNET_CLASSES)
    cloud = io.read(paths[0])
    for column in ("rgb", "normals", "faces", "labels", "instances", "superpoints"):
        assert getattr(cloud, column) is not None, column
    assert np.array_equal(cloud.xyz, make_scene(3, split="val", config=TINY).xyz)
    assert len(cloud) != len(make_scene(3, split="train", config=TINY))
    os.utime(paths[0], (1, 1))
    write_dataset(tmp_path, 2, seed=3, split="val", config=TINY)
    assert paths[0].stat().st_mtime == 1
    assert sorted(p.name for p in (tmp_path / "val").iterdir()) == ["room000003.ply", "room000004.ply"]


def test_unknown_split_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="train"):
        write_dataset(tmp_path, 1, split="training")


def test_raw_layouts_hold_the_same_room_and_resume(tmp_path):
    scannet = write_dataset(tmp_path, 1, seed=4, split="val", config=TINY, layout="scannet")
    assert scannet == [tmp_path / "scans" / "scene0004_01"]
    s3dis = write_dataset(tmp_path, 1, seed=4, split="val", config=TINY, layout="s3dis")
    assert s3dis == [tmp_path / "Area_5" / "office_5"]
    mesh = io.read(scannet[0] / "scene0004_01_vh_clean_2.ply")
    assert len((s3dis[0] / "office_5.txt").read_text().splitlines()) == len(mesh)
    before = scannet[0].stat().st_mtime_ns
    write_dataset(tmp_path, 1, seed=4, split="val", config=TINY, layout="scannet")
    assert scannet[0].stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="scans, scannet, scannet-frames, frames, scannetpp, s3dis, pointcept, inst_nostuff"):
        write_dataset(tmp_path, 1, layout="kitti")


def test_rooms_as_others_prepare_them_are_read_back(tmp_path):
    room = make_scene(4, split="val", config=TINY)
    (pointcept,) = write_dataset(tmp_path / "a", 1, seed=4, split="val", config=TINY, layout="pointcept")
    (family,) = write_dataset(tmp_path / "b", 1, seed=4, split="val", config=TINY, layout="inst_nostuff")
    assert family == tmp_path / "b/val/scene0004_01_inst_nostuff.pth"
    recipe = open_recipe("inst_nostuff", tmp_path / "b")
    for cloud in (read_pointcept(pointcept, SCANNET_CLASSES), recipe.read(recipe.sources()[0])[0]):
        assert np.array_equal(cloud.rgb, room.rgb)
        assert np.allclose(cloud.normals, room.normals, atol=1e-6)
        assert np.allclose(cloud.xyz - cloud.xyz.mean(0), room.xyz - room.xyz.mean(0), atol=1e-5)
        assert np.array_equal(cloud.labels, room.labels)
        assert np.array_equal(cloud.instances, np.where(room.labels >= 0, room.instances, -1))
