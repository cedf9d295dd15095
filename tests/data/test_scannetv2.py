"""ScanNetV2 in its raw layout: what goes in comes out, and every known trap is caught or survived."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pc3d import io
from pc3d.data import ScanDataset
from pc3d.data.lists import read_split
from pc3d.data.preparation import prepare
from pc3d.data.scannet200 import ScanNet200
from pc3d.data.scannet_groups import Group, group_of_vertices, read_groups, read_segments
from pc3d.data.scannetv2 import LABEL_MAP, LISTS, NYU40_IDS, ScanNetV2, read_label_map
from pc3d.errors import ConfigError, DataError, FileError, FormatError
from pc3d.synth import SCANNET_CLASSES, export_scannet

SCENE = "scans/scene0000_00/scene0000_00"


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def read_first(raw: Path, split: str = "train"):
    recipe = ScanNetV2.open(raw)
    return recipe.read(next(source for source in recipe.sources() if source.split == split))


def test_labels_and_instances_survive_the_raw_layout_exactly(scannet_raw, room):
    cloud, notes = read_first(scannet_raw)
    assert notes == []
    assert np.array_equal(cloud.labels, room.labels)
    assert np.array_equal(cloud.instances, room.instances)
    assert np.array_equal(cloud.xyz, room.xyz)
    assert np.array_equal(cloud.rgb, room.rgb)
    assert np.array_equal(cloud.faces, room.faces)


def test_walls_floors_and_ceilings_are_groups_in_the_raw_files_and_no_instances_after(scannet_raw):
    groups, _ = read_groups(scannet_raw / f"{SCENE}.aggregation.json")
    assert [group.label for group in groups] == ["desk", "chair", "chair", "wall", "floor", "ceiling"]
    nyu = io.read(scannet_raw / f"{SCENE}_vh_clean_2.labels.ply").labels
    assert {0, 1, 2, 5, 14, 22} == set(nyu.tolist())
    assert read_first(scannet_raw)[0].instances.max() == 2


def test_segments_are_unions_that_make_objects_and_have_ids_with_gaps(scannet_raw, room):
    segments = np.array(json.loads((scannet_raw / f"{SCENE}_vh_clean_2.0.010000.segs.json").read_text())["segIndices"])
    for segment in np.unique(segments):
        assert len(np.unique(room.instances[segments == segment])) == 1
    assert segments.max() >= len(np.unique(segments))


def test_an_object_that_shares_a_superpoint_with_the_floor_survives(scannet_raw, room):
    coarse = room.replace(superpoints=np.zeros(len(room), np.int64))
    export_scannet(coarse, scannet_raw / "scans/scene0005_00")
    (scannet_raw / "scannetv2_train.txt").write_text("scene0005_00\n")
    cloud, _ = read_first(scannet_raw)
    assert np.array_equal(cloud.instances, room.instances)


def test_the_classes_are_the_benchmarks():
    assert tuple(NYU40_IDS) == SCANNET_CLASSES
    assert list(NYU40_IDS.values()) == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39]


def test_the_split_lists_of_the_repository_are_the_official_ones():
    lists = {split: read_split(LISTS / f"scannetv2_{split}.txt") for split in ("train", "val", "test")}
    assert {split: len(set(names)) for split, names in lists.items()} == {"train": 1201, "val": 312, "test": 100}
    assert not set(lists["train"]) & set(lists["val"])
    table = (LISTS / "classes.tsv").read_text().splitlines()[1:]
    assert [tuple(line.split("\t")[:3]) for line in table] == [
        (str(label), name, str(nyu)) for label, (name, nyu) in enumerate(NYU40_IDS.items())]


def test_a_test_scene_has_no_labels_and_needs_no_segments(scannet_raw):
    cloud, notes = read_first(scannet_raw, "test")
    assert cloud.labels is None
    assert cloud.instances is None
    assert notes == []


def test_groups_that_are_listed_twice_count_once(scannet_raw, room):
    edit_json(scannet_raw / f"{SCENE}.aggregation.json", lambda content: content["segGroups"].extend(content["segGroups"]))
    cloud, notes = read_first(scannet_raw)
    assert np.array_equal(cloud.instances, room.instances)
    assert notes == ["6 of 12 groups are there twice and count once"]


def test_the_aggregation_of_another_mesh_is_refused(scannet_raw):
    def other(content):
        for group in content["segGroups"]:
            group["segments"] = [segment + 100_000 for segment in group["segments"]]

    edit_json(scannet_raw / f"{SCENE}.aggregation.json", other)
    with pytest.raises(DataError, match=r"aggregation of another mesh"):
        read_first(scannet_raw)


def test_the_aggregation_of_the_full_mesh_is_never_taken_instead(scannet_raw):
    right = scannet_raw / f"{SCENE}.aggregation.json"
    (right.parent / "scene0000_00_vh_clean.aggregation.json").write_text('{"segGroups": []}')
    assert read_first(scannet_raw)[0].instances.max() == 2


def test_a_few_missing_segments_and_overlaps_are_noted():
    groups = [("chair", [1, 2, 99]), ("table", [2, 3])]
    instances, notes = group_of_vertices(np.array([1, 2, 3, 4]), [Group(n, np.array(s)) for n, s in groups], where="here")
    assert instances.tolist() == [0, 1, 1, -1]
    assert len(notes) == 2


@pytest.mark.parametrize("kind", [ScanNetV2, ScanNet200])
def test_a_label_that_the_map_does_not_know_is_a_fault_of_the_scene(scannet_raw, tmp_path, kind):
    edit_json(scannet_raw / f"{SCENE}.aggregation.json", lambda content: content["segGroups"][0].update(label="desq"))
    report = prepare(kind.open(scannet_raw), tmp_path / "out")
    assert report.made == 3
    assert "aggregation.json: the label map does not know the labels of objects; got desq (1 of 6 objects)" in \
        report.faults["train/scene0000_00"]
    table = scannet_raw / "scannetv2-labels.combined.tsv"
    table.write_text(table.read_text() + "0\tdesq\tdesq\t0\tdesq\n")  # as the message says
    assert prepare(kind.open(scannet_raw), tmp_path / "out").faults == {}
    table.write_text("id\traw_category\tnyu40id\n")
    with pytest.raises(FormatError, match="the label map has no rows"):
        kind.open(scannet_raw)


def test_labels_outside_nyu40_are_noted_not_guessed(scannet_raw, room):
    path = scannet_raw / f"{SCENE}_vh_clean_2.labels.ply"
    cloud = io.read(path)
    labels = cloud.labels.copy()
    labels[room.instances == 1] = 149
    io.write(cloud.replace(labels=labels), path)
    cloud, notes = read_first(scannet_raw)
    assert set(cloud.labels[room.instances == 1]) == {-1}
    assert set(cloud.instances[room.instances == 1]) == {-1}
    assert (cloud.labels[room.instances == 0] == 10).all()
    assert any("149" in note for note in notes)


@pytest.mark.parametrize("member", ["_vh_clean_2.labels.ply", "_vh_clean_2.0.010000.segs.json"])
def test_a_file_of_another_mesh_is_refused_with_both_counts(scannet_raw, room, member):
    path = scannet_raw / f"{SCENE}{member}"
    if path.suffix == ".ply":
        io.write(io.read(path)[:-1], path)
    else:
        edit_json(path, lambda content: content["segIndices"].pop())
    with pytest.raises(DataError, match=f"{len(room) - 1} vertices; expected {len(room)}"):
        read_first(scannet_raw)


@pytest.mark.parametrize("content", ['{"segGroups": [{"label": "chair"}]}', '{"segGroups": 3}', "[]", '{"segGroups": [', "\0"])
def test_a_broken_aggregation_names_its_file(scannet_raw, content):
    (scannet_raw / f"{SCENE}.aggregation.json").write_text(content)
    with pytest.raises(FormatError, match=r"scene0000_00\.aggregation\.json"):
        read_first(scannet_raw)


@pytest.mark.parametrize("content", [
    '{"a": 1, "segIndices": [3, 1,\n2]}', '{"segIndices":[3,1,2]}', '{"list": [1], "segIndices": [3, 1, 2], "more": {}}',
    '{"segIndices": [3, 1, 2e0]}', '{"segIndices": [3, 1 2]}', '{"segIndices": [3,, 1, 2]}', '{"segIndices": [3, 1, 2,]}',
    '{"segIndices": [3, 1, 2]', '{"segIndices" [3, 1, 2]}', '{"a": {"segIndices": [3, 1, 2]}}',
    '{"segIndices": [3, 1, 99999999999999999999]}', '{"segIndices": []}'])
def test_segments_are_read_as_json_reads_them(tmp_path, content):
    (tmp_path / "a.segs.json").write_text(content)
    try:
        expected = json.loads(content)["segIndices"]
        good = len(expected) == 3 and all(isinstance(value, int) and value < 2**63 for value in expected)
    except (ValueError, KeyError):
        good = False
    if good:
        assert read_segments(tmp_path / "a.segs.json", 3).tolist() == [3, 1, 2]
    else:
        with pytest.raises((FormatError, DataError)):
            read_segments(tmp_path / "a.segs.json", 3)


@pytest.mark.parametrize("content", ['{"segIndices": "abc"}', '{"segIndices": [1, 2.5]}', '{"segIndices": [[1]]}', "{}"])
def test_broken_segments_name_their_file(scannet_raw, content):
    (scannet_raw / f"{SCENE}_vh_clean_2.0.010000.segs.json").write_text(content)
    with pytest.raises(FormatError, match="list of segment ids"):
        read_first(scannet_raw)


def test_the_label_map_must_have_its_columns_and_numbers(tmp_path):
    path = tmp_path / LABEL_MAP
    with pytest.raises(FileError, match="download script"):
        read_label_map(tmp_path, "nyu40id")
    path.write_text("raw_category\tnyu40id\nchair\tfive\n")
    with pytest.raises(FormatError, match=r"combined\.tsv:2"):
        read_label_map(tmp_path, "nyu40id")
    path.write_text("category\tnyu40id\nchair\t5\n")
    with pytest.raises(FormatError, match="raw_category"):
        read_label_map(tmp_path, "nyu40id")
    path.write_text("id\traw_category\tnyu40id\n1\t32\" tv \t25\n2\tblob\t\n")
    assert read_label_map(tmp_path, "nyu40id") == {'32" tv': 25, "blob": 0}
    assert read_label_map(tmp_path, "id") == {'32" tv': 1, "blob": 2}


def test_a_folder_without_scenes_and_an_unknown_split_say_so(tmp_path, scannet_raw):
    with pytest.raises(ConfigError, match="train, val, test"):
        ScanNetV2.open(scannet_raw, ["validation"])
    with pytest.raises(FileError, match="no such folder"):
        ScanNetV2.open(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="no scene of the split lists"):
        ScanNetV2(tmp_path / "empty").sources()
    with pytest.raises(FileError, match="--lists"):
        ScanNetV2(scannet_raw, ("train",), tmp_path / "empty").sources()


def test_a_split_without_a_scene_is_left_out_unless_asked_for(scannet_raw):
    (scannet_raw / "scannetv2_val.txt").write_text("scene0999_00\n")
    assert {source.split for source in ScanNetV2.open(scannet_raw).sources()} == {"train", "test"}
    assert {source.split for source in ScanNetV2.open(scannet_raw, ["val"]).sources()} == {"val"}


def test_a_split_list_cannot_lead_out_of_the_folder(tmp_path):
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\n../../etc\n")
    with pytest.raises(FormatError, match=r"txt:2"):
        read_split(tmp_path / "scannetv2_train.txt")


def test_from_the_raw_folder_to_a_dataset(scannet_raw, room, tmp_path):
    report = prepare(ScanNetV2.open(scannet_raw), tmp_path / "out")
    assert (report.made, report.kept, report.faults) == (4, 0, {})
    dataset = ScanDataset(tmp_path / "out", "train,val")
    assert [path.name for path in dataset.paths] == ["scene0000_00", "scene0001_00", "scene0000_01"]
    assert dataset.classes == SCANNET_CLASSES
    cloud = dataset[2]
    assert np.array_equal(cloud.labels, room.labels)
    assert np.array_equal(cloud.instances, room.instances)
    assert np.array_equal(cloud.superpoints, room.superpoints)
    with pytest.raises(FormatError, match="label"):
        ScanDataset(tmp_path / "out", "test")[0]
