"""A segmented scan on disk: what is seen, what is read, and that nothing of the scan is lost."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pc3d.errors import DataError, FileError, FormatError
from pc3d.io import read, read_result, write_result
from pc3d.io.palette import instance_colors
from pc3d.structures import Instances


@pytest.fixture
def result(scan, found, tmp_path):
    instances = replace(found, point_to_superpoint=scan.superpoints)
    instances = replace(instances, bits=instances.bits & 0b00111111)     # superpoints 6 and 7 belong to none
    write_result(tmp_path / "out", scan.replace(metadata={"file": "room.ply"}), instances)
    return scan, instances, tmp_path / "out"


def test_instances_and_scan_come_back(result):
    scan, instances, folder = result
    cloud, back = read_result(folder)
    for name in ("xyz", "rgb", "normals", "intensity", "faces", "labels", "instances", "superpoints"):
        assert np.array_equal(getattr(cloud, name), getattr(scan, name)), name
    assert all(np.array_equal(cloud.attributes[name], values) for name, values in scan.attributes.items())
    assert list(cloud.attributes) == list(scan.attributes)
    assert np.array_equal(back.bits, instances.bits)
    assert np.array_equal(back.scores, instances.scores)
    assert back.classes == instances.classes


def test_the_ply_shows_instances_in_colour_and_the_rest_in_grey(result):
    _, instances, folder = result
    shown = read(folder / "instances.ply")
    owner, labels = instances.to_labels()
    assert (owner == -1).any()
    assert np.array_equal(shown.instances, owner)
    assert np.array_equal(shown.labels, labels)
    assert (shown.rgb[owner == -1] == 160).all()
    assert np.array_equal(shown.rgb[owner == 2], np.tile(instance_colors(4)[2], ((owner == 2).sum(), 1)))


def test_the_scans_own_columns_stay_in_the_ply(result):
    scan, _, folder = result
    attributes = read(folder / "instances.ply").attributes
    assert np.array_equal(attributes["input_label"], scan.labels)
    assert np.array_equal(attributes["input_instance"], scan.instances)
    assert np.array_equal(attributes["input_blue"], scan.rgb[:, 2])


def test_the_json_tells_file_classes_and_instances(result):
    _, instances, folder = result
    summary = json.loads((folder / "instances.json").read_text())
    assert summary["file"] == "room.ply"
    assert summary["num_points"] == 60
    assert summary["classes"] == ["chair", "table", "sofa"]
    assert [record["num_points"] for record in summary["instances"]] == instances.num_points.tolist()
    assert summary["instances"][1]["label"] == "sofa"


def test_an_empty_instance_has_no_box_in_strict_json(scan, tmp_path):
    nothing = Instances.from_masks(np.zeros((1, 60), bool), [0], [0.5], ("chair",))
    write_result(tmp_path, scan, nothing)

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no json")

    summary = json.loads((tmp_path / "instances.json").read_text(), parse_constant=refuse)
    assert summary["instances"][0]["box"] is None


def test_a_scan_without_instances_or_colours_is_a_result_too(scan, tmp_path):
    bare = scan.replace(rgb=None, labels=None, instances=None)
    write_result(tmp_path, bare, Instances.from_masks(np.zeros((0, 60), bool), [], [], ("chair",)))
    cloud, instances = read_result(tmp_path)
    assert (cloud.rgb, cloud.labels, cloud.instances, len(instances)) == (None, None, None, 0)
    assert (read(tmp_path / "instances.ply").rgb == 160).all()


def test_instances_of_another_scan_are_refused_before_anything_is_written(scan, tmp_path):
    other = Instances.from_masks(np.zeros((1, 59), bool), [0], [0.5], ("chair",))
    with pytest.raises(DataError, match="instances over 59 points; expected 60 points"):
        write_result(tmp_path / "out", scan, other)
    assert not (tmp_path / "out").exists()


def test_a_second_result_replaces_the_first(result):
    scan, instances, folder = result
    write_result(folder, scan, instances[[0]])
    assert len(read_result(folder)[1]) == 1
    assert sorted(p.name for p in folder.iterdir()) == ["instances.json", "instances.npz", "instances.ply"]


def test_a_broken_result_is_refused(result, tmp_path):
    _, _, folder = result
    np.savez(folder / "instances.npz", bits=np.zeros((1, 1)))
    with pytest.raises(FormatError, match="not an instances file"):
        read_result(folder)
    (folder / "instances.npz").unlink()
    with pytest.raises(FileError, match=r"instances\.npz: there is no such file"):
        read_result(folder)
    with pytest.raises(FileError, match="there is no such folder"):
        read_result(tmp_path / "nowhere")


def test_neighbouring_instances_look_different():
    colors = instance_colors(64).astype(int)
    assert np.abs(np.diff(colors, axis=0)).sum(axis=1).min() > 60
    assert len(np.unique(colors, axis=0)) == 64
