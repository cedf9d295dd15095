"""Scenes that Pointcept prepared are read as they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pc3d.data import ScanDataset
from pc3d.data.lists import DATASETS, read_table
from pc3d.data.pointcept import read_pointcept
from pc3d.data.recipes import open_recipe
from pc3d.errors import DataError, FormatError


def classes_of(benchmark):
    """Names of the instance classes in order, and the names in the order of Pointcept's numbers."""
    table = read_table(DATASETS / benchmark / "classes.tsv", ("label", "name"))
    names = [row["name"] for row in table]
    instances = [row["name"] for row in table if row["label"] != "-1"]
    return instances, ["wall", "floor", *names] if benchmark == "scannetv2" else names


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
    cloud = read_pointcept(folder, classes_of("scannetv2")[0])
    for name in ("xyz", "rgb", "normals", "labels", "instances"):
        assert np.array_equal(getattr(cloud, name), getattr(room, name)), name


def test_a_dataset_of_them_trains_as_it_is(folder, tmp_path, room):
    (tmp_path / "classes.json").write_text(json.dumps(classes_of("scannetv2")[0]))
    cloud = ScanDataset(tmp_path, "train")[0]
    assert cloud.superpoints is not None
    assert np.array_equal(cloud.labels, room.labels)


@pytest.mark.parametrize(("benchmark", "file"), [("scannetv2", "segment20.npy"), ("scannet200", "segment200.npy"),
                                                 ("s3dis", "segment.npy")])
def test_the_classes_decide_which_labels_are_read(benchmark, file, folder, room):
    instances, numbered = classes_of(benchmark)
    given = np.arange(len(room)) % (len(numbered) + 1) - 1
    for other, (name, count) in enumerate([("segment20.npy", 20), ("segment200.npy", 200)]):
        np.save(folder / name, (np.arange(len(room)) + other) % count)
    np.save(folder / file, given[:, None].astype(np.int16))
    np.save(folder / "instance.npy", np.zeros((len(room), 1), np.int32))
    cloud = read_pointcept(folder, instances)
    names = np.array([*instances, "none"])[cloud.labels]
    expected = [numbered[number] if number >= 0 and numbered[number] in instances else "none" for number in given]
    assert names.tolist() == expected
    assert np.array_equal(cloud.instances, np.where(names == "none", -1, 0))


def test_several_labels_a_vertex_are_kept_where_prepared_scenes_of_scannetpp_keep_them(folder, room):
    (folder / "segment20.npy").unlink()
    instances, numbered = classes_of("scannetpp")
    segment, objects = np.full((2, len(room), 3), -1)
    segment[:3] = [[numbered.index(name) for name in row] for row in
                   (("chair", "wall", "table"), ("wall", "chair", "table"), ("door", "chair", "box"))]
    segment[3, 0] = numbered.index("floor")
    objects[:4] = np.arange(12).reshape(4, 3)
    np.save(folder / "segment.npy", segment.astype(np.int16))
    np.save(folder / "instance.npy", objects.astype(np.int16))
    cloud = read_pointcept(folder, instances)
    chair, table, door, box = map(instances.index, ("chair", "table", "door", "box"))
    assert cloud.labels[:5].tolist() == [chair, -1, door, -1, -1]
    assert cloud.instances[:5].tolist() == [0, -1, 6, -1, -1]
    assert cloud.attributes["more_labels"][:4].tolist() == [[-1, table], [chair, table], [chair, box], [-1, -1]]
    assert cloud.attributes["more_instances"][:4].tolist() == [[-1, 2], [4, 5], [7, 8], [-1, -1]]
    np.save(folder / "instance.npy", objects[:, 0])
    with pytest.raises(DataError, match=r"instance\.npy"):
        read_pointcept(folder, instances)


def test_s3dis_with_its_classes_in_another_order_is_read_by_name(folder, room):
    (folder / "segment20.npy").unlink()
    np.save(folder / "segment.npy", np.full((len(room), 1), 7))
    names = classes_of("s3dis")[0]
    assert names[7] == "table"
    softgroup = [*names[:7], "chair", "table", "bookcase", "sofa", *names[11:]]
    assert set(read_pointcept(folder, names).labels) == {7}
    assert set(read_pointcept(folder, softgroup).labels) == {8}


def test_numbers_of_own_classes_stay_as_they_are(folder, room, tmp_path):
    (folder / "segment20.npy").unlink()
    np.save(folder / "segment.npy", np.ones(len(room), np.int64))
    assert set(read_pointcept(folder, ["table", "chair"]).labels) == {1}
    with pytest.raises(DataError, match="a label is no class"):
        read_pointcept(folder, ["table"])
    (tmp_path / "classes.tsv").write_text("label\tname\n1\tchair\n0\ttable\n")  # numbers of one's own
    recipe = open_recipe("folder", tmp_path)
    assert set(recipe.read(recipe.sources()[0])[0].labels) == {0}


def test_a_folder_whose_labels_could_mean_two_things_is_refused(folder, room):
    np.save(folder / "segment200.npy", np.zeros(len(room), np.int64))
    for classes, what in ((["chair", "table"], "more than one label file"), (None, "more than one label file"),
                          (["tree"], "no label file has these classes")):
        with pytest.raises(DataError, match=what):
            read_pointcept(folder, classes)
    np.save(folder / "segment200.npy", np.full(len(room), 200))
    with pytest.raises(DataError, match="a label is no class"):
        read_pointcept(folder, classes_of("scannet200")[0])


def test_a_scene_without_labels_is_read(folder, room):
    for name in ("segment20.npy", "instance.npy"):
        (folder / name).unlink()
    assert read_pointcept(folder, ["chair"]).labels is None


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
