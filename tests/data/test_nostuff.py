"""Files of the PointGroup family are converted without running anything that is in them."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from pc3d.data import ScanDataset
from pc3d.data.nostuff import SOFTGROUP_ORDER, NoStuff
from pc3d.data.preparation import prepare
from pc3d.data.s3dis import CLASSES
from pc3d.errors import ConfigError, DataError, FileError, FormatError
from pc3d.io.arrays_pth import read_arrays


def family(room, *, superpoints=False, labelled=True):
    """The tuple that SPFormer or PointGroup would have saved."""
    xyz, rgb = (room.xyz - room.xyz.mean(0)).astype(np.float64), room.rgb / 127.5 - 1
    labels = np.where(room.labels >= 0, room.labels + 2, np.where(room.xyz[:, 2] == 0, 1, -100)).astype(np.float64)
    instances = np.where(room.instances >= 0, room.instances, -100).astype(np.float64)
    return (xyz, rgb, *([room.superpoints * 3] if superpoints else []), *([labels, instances] if labelled else []))


def convert(tmp_path, content, *, labels="scannetv2", split="train", beside=None):
    folder = tmp_path / "raw" / split
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / "scene0000_00_inst_nostuff.pth")
    for name, array in (beside or {}).items():
        torch.save(array, folder / f"scene0000_00_{name}.pth")
    recipe = NoStuff.open(tmp_path / "raw", labels=labels)
    return recipe.read(recipe.sources()[0])[0]


@pytest.mark.parametrize("superpoints", [False, True])
def test_a_scene_comes_back(tmp_path, room, superpoints):
    cloud = convert(tmp_path, family(room, superpoints=superpoints))
    for name in ("rgb", "labels", "instances"):
        assert np.array_equal(getattr(cloud, name), getattr(room, name)), name
    assert np.allclose(cloud.xyz, room.xyz - room.xyz.mean(0), atol=1e-6)
    assert superpoints == (cloud.superpoints is not None)
    assert not superpoints or np.array_equal(cloud.superpoints, room.superpoints)


def test_test_scenes_have_no_labels_and_files_beside_a_scene_are_taken(tmp_path, room):
    cloud = convert(tmp_path, family(room, labelled=False), split="test",
                    beside={"superpoints": room.superpoints, "normals": torch.from_numpy(room.normals.copy())})
    assert cloud.labels is None
    assert np.array_equal(cloud.superpoints, room.superpoints)
    assert np.array_equal(cloud.normals, room.normals)


def test_the_two_orders_of_s3dis_are_told_apart(tmp_path, room):
    raw = tmp_path / "raw"
    raw.mkdir()
    numbers = np.arange(len(room)) % 13
    rgb = room.rgb.astype(np.float32)
    torch.save((room.xyz, rgb, numbers, numbers, "office", "Area_5_office_1"), raw / "Area_5_office_1_inst_nostuff.pth",
               _use_new_zipfile_serialization=False)
    for labels, order in (("s3dis-softgroup", SOFTGROUP_ORDER), ("s3dis", CLASSES)):
        recipe = NoStuff.open(raw, labels=labels)
        assert [source.key for source in recipe.sources()] == ["Area_5/Area_5_office_1"]
        cloud, notes = recipe.read(recipe.sources()[0])
        assert [CLASSES[i] for i in cloud.labels[:13]] == list(order)
        assert np.array_equal(cloud.rgb, room.rgb)
        assert notes == ["colours were taken as 0..255"]


def test_from_files_to_a_dataset(tmp_path, room):
    convert(tmp_path, family(room, superpoints=True))
    report = prepare(NoStuff.open(tmp_path / "raw"), tmp_path / "out")
    assert (report.made, report.faults) == (1, {})
    assert np.array_equal(ScanDataset(tmp_path / "out", "train")[0].instances, room.instances)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_hostile_file_is_run(tmp_path, room, zipped):
    ran, path = tmp_path / "ran", tmp_path / "a_inst_nostuff.pth"
    hostile = Hostile(ran)
    for content in (hostile, (room.xyz, hostile), (room.xyz, np.array([hostile], dtype=object)), {"xyz": hostile}):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(FormatError, match="nothing in it was run"):
            read_arrays(path)
        assert not ran.exists()
    torch.load(path, weights_only=False)  # the file is hostile indeed
    assert ran.exists()


@pytest.mark.parametrize("content", [np.array(["a", "b"]), np.array([None]), {"a": 1}, ([1, 2],), b"text"])
def test_what_is_no_tuple_of_numbers_is_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    torch.save(content, path)
    with pytest.raises(FormatError, match=r"a\.pth"):
        read_arrays(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 nothing", b"\x80\x02]q\x00.", b"(lp0\nS'a'\n."])
def test_a_broken_file_is_a_format_error(tmp_path, content):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(FormatError):
        read_arrays(tmp_path / "a.pth")


def test_members_that_do_not_fit_are_refused_by_name(tmp_path, room):
    xyz, rgb, labels, instances = family(room)
    with pytest.raises(DataError, match="the instances do not fit"):
        convert(tmp_path, (xyz, rgb, labels, instances[:-1]))
    with pytest.raises(DataError, match="pth:row 0: the points are not finite"):
        convert(tmp_path, (np.where(np.arange(len(xyz))[:, None] < 2, np.nan, xyz), rgb, labels, instances))
    with pytest.raises(DataError, match="row 0: a label has no class"):
        convert(tmp_path, (xyz, rgb, labels * 0 + 40, instances))
    with pytest.raises(FormatError, match="another length"):
        convert(tmp_path, (xyz,) * 9)
    with pytest.raises(ConfigError, match="s3dis-softgroup"):
        NoStuff.open(tmp_path / "raw", labels="kitti")
    with pytest.raises(FileError, match="no such files"):
        NoStuff.open(tmp_path / "nowhere")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut_off_is_a_format_error(tmp_path, room, zipped):
    path = tmp_path / "a_inst_nostuff.pth"
    torch.save(family(room), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    with pytest.raises(FormatError, match="cut off"):
        read_arrays(path)
