"""Scenes that Pointcept prepared are read as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pc3d.data import ScanDataset
from pc3d.data.pointcept import read_pointcept
from pc3d.errors import DataError, FormatError


@pytest.fixture
def folder(tmp_path, room):
    folder = tmp_path / "train" / "scene0000_00"
    folder.mkdir(parents=True)
    np.save(folder / "coord.npy", room.xyz)
    np.save(folder / "color.npy", room.rgb)
    np.save(folder / "normal.npy", room.normals)
    row = np.arange(len(room))  # no object: unlabelled, wall and floor in turn, some of them instances there
    np.save(folder / "segment20.npy", np.where(room.labels >= 0, room.labels + 2, row % 3 - 1).astype(np.int16))
    np.save(folder / "instance.npy", np.where(room.instances >= 0, room.instances, row % 2 - 1).astype(np.int16))
    return folder


def test_walls_floors_and_the_unlabelled_are_no_instances(folder, room):
    cloud = read_pointcept(folder)
    for name in ("xyz", "rgb", "normals", "labels", "instances"):
        assert np.array_equal(getattr(cloud, name), getattr(room, name)), name


def test_a_dataset_of_them_trains_as_it_is(folder, tmp_path, room):
    (tmp_path / "classes.json").write_text(json.dumps([str(i) for i in range(18)]))
    cloud = ScanDataset(tmp_path, "train")[0]
    assert cloud.superpoints is not None
    assert np.array_equal(cloud.labels, room.labels)


def test_labels_of_s3dis_stay_as_they_are(folder, room):
    (folder / "segment20.npy").unlink()
    np.save(folder / "segment.npy", np.full((len(room), 1), 12))
    assert set(read_pointcept(folder).labels) == {12}


def test_a_file_that_does_not_fit_or_holds_objects_is_refused(folder):
    np.save(folder / "instance.npy", np.zeros(3, np.int32))
    with pytest.raises(DataError, match=r"instance\.npy"):
        read_pointcept(folder)
    np.save(folder / "instance.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"instance\.npy"):
        read_pointcept(folder)
    np.save(folder / "coord.npy", np.full((3, 3), np.nan))
    with pytest.raises(DataError, match=r"coord\.npy"):
        read_pointcept(folder)
