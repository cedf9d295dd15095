"""ScanNet200 reads ScanNetV2's raw files: category and instance come from the groups, 198 classes."""

from __future__ import annotations

import json

import numpy as np

from pc3d.data import ScanDataset
from pc3d.data.preparation import prepare
from pc3d.data.scannet200 import CLASSES, ScanNet200, class_ids
from pc3d.synth.export_scannet import RAW_IDS


def first_scene(raw):
    recipe = ScanNet200.open(raw)
    return recipe.read(next(source for source in recipe.sources() if source.split == "train"))


def test_the_classes_are_the_200_but_wall_and_floor():
    assert len(class_ids()) == len(set(class_ids().values())) == 198
    assert list(class_ids().items())[:4] == [("chair", 2), ("table", 4), ("door", 5), ("couch", 6)]
    assert list(class_ids().values()) == sorted(class_ids().values())
    rows = [line.split("\t") for line in CLASSES.read_text().splitlines()[1:]]
    assert [row[1] for row in rows if row[0] == "-1"] == ["wall", "floor"]
    assert [row[3] for row in rows].count("head") == 66
    assert {row[3] for row in rows} == {"head", "common", "tail"}


def test_every_category_that_synthetic_scenes_use_is_one_of_the_benchmark():
    assert set(RAW_IDS.values()) - {1, 3} <= set(class_ids().values())


def test_labels_are_the_raw_categories_of_the_groups(scannet_raw, room):
    cloud, notes = first_scene(scannet_raw)
    names = list(class_ids())
    assert notes == []
    for label, name in ((10, "desk"), (2, "chair")):
        assert {names[i] for i in cloud.labels[room.labels == label]} == {name}
    assert "ceiling" in {names[i] for i in np.unique(cloud.labels) if i >= 0}  # a thing here, in ScanNetV2 none
    for instance in range(3):
        rows = room.instances == instance
        assert set(cloud.instances[rows]) == {instance}


def test_walls_floors_and_other_categories_are_none(scannet_raw, room):
    path = scannet_raw / "scans/scene0000_00/scene0000_00.aggregation.json"
    content = json.loads(path.read_text())
    content["segGroups"][0]["label"] = "spaceship"
    path.write_text(json.dumps(content))
    table = scannet_raw / "scannetv2-labels.combined.tsv"
    table.write_text(table.read_text() + "9999\tspaceship\tspaceship\t40\tspaceship\n")
    cloud, notes = first_scene(scannet_raw)
    assert set(cloud.labels[room.instances == 0]) == set(cloud.instances[room.instances == 0]) == {-1}
    assert notes == []
    floor = (room.labels < 0) & (room.xyz[:, 2] == 0) & (room.normals[:, 2] > 0.9)
    assert set(cloud.labels[floor]) == {-1}


def test_from_the_raw_folder_to_a_dataset_without_labels_ply(scannet_raw, tmp_path):
    for path in scannet_raw.rglob("*.labels.ply"):
        path.unlink()
    report = prepare(ScanNet200.open(scannet_raw), tmp_path / "out")
    assert (report.made, report.faults) == (4, {})
    assert len(ScanDataset(tmp_path / "out", "train").classes) == 198
