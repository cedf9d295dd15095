"""A segmented scan on disk: what is seen, what is read, and that nothing of the scan is lost."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pc3d.errors import DataError, FileError, FormatError
from pc3d.io import read, read_instances, read_result, write, write_instances, write_result
from pc3d.io.ply import read_ply
from pc3d.structures import Instances
from pc3d.structures.palette import NEUTRAL, distinct_colors


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
    shown = read_ply(folder / "instances.ply")
    owner, labels = instances.to_labels()
    assert (owner == -1).any()
    assert np.array_equal(shown.instances, owner)
    assert np.array_equal(shown.labels, labels)
    assert (shown.rgb[owner == -1] == NEUTRAL).all()
    assert np.array_equal(shown.rgb[owner == 2], np.tile(distinct_colors(4)[2], ((owner == 2).sum(), 1)))


def test_the_scans_own_columns_stay_in_the_ply(result):
    scan, _, folder = result
    attributes = read_ply(folder / "instances.ply").attributes
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
    assert (read_ply(tmp_path / "instances.ply").rgb == NEUTRAL).all()
    assert read(tmp_path / "instances.ply").rgb is None


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
    with pytest.raises(FormatError, match="no instances written by pc3d"):
        read_result(folder)
    (folder / "instances.npz").unlink()
    with pytest.raises(FileError, match=r"instances\.npz: there is no such file"):
        read_result(folder)
    with pytest.raises(FileError, match="there is no such folder"):
        read_result(tmp_path / "nowhere")


def test_a_painted_file_reads_as_the_scan_it_was(result, tmp_path):
    scan, instances, folder = result
    again = read(folder / "instances.ply")
    for name in ("rgb", "labels", "instances", "superpoints"):
        assert np.array_equal(getattr(again, name), getattr(scan, name)), name
    assert list(again.attributes) == list(scan.attributes)
    write_result(tmp_path / "second", again, instances)
    assert np.array_equal(read_result(tmp_path / "second")[0].rgb, scan.rgb)
    write(again, tmp_path / "own.ply")      # no longer painted, so nothing is taken away
    assert np.array_equal(read(tmp_path / "own.ply").rgb, scan.rgb)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_scan_with_odd_columns_gives_a_result(scan, tmp_path):
    broken = {"label": np.full(60, 0.5), "words": np.full(60, "wall"), "big": np.full(60, 2**60 + 1), "xyz": scan.xyz,
              "red": np.zeros(60), "superpoint": np.full(60, -1)}
    np.savez(tmp_path / "odd.npz", **broken)
    cloud = read(tmp_path / "odd.npz")
    found = Instances.from_masks(np.ones((1, 60)), [0], [0.5], ("chair",))
    write_result(tmp_path, cloud.replace(superpoints=np.zeros(60)), found)
    shown = read_ply(tmp_path / "instances.ply")
    assert sorted(shown.attributes) == ["input_input_label", "input_input_red", "input_superpoint"]
    back = read_result(tmp_path)[0]
    assert back.labels is None
    assert back.rgb is None
    assert sorted(back.attributes) == ["input_label", "input_red", "input_superpoint"]


@pytest.mark.parametrize("labelled", [True, False])
def test_columns_that_are_called_as_the_scans_own_are_in_the_result_stay_apart(scan, found, tmp_path, labelled):
    own = {"input_label": np.arange(60), "input_input_label": np.arange(60) + 7, "input_red": np.full(60, 3)}
    cloud = scan.replace(attributes=own, labels=scan.labels if labelled else None)
    write_result(tmp_path, cloud, replace(found, point_to_superpoint=scan.superpoints))
    back = read_result(tmp_path)[0]
    assert {name: values.tolist() for name, values in back.attributes.items()} == {n: v.tolist() for n, v in own.items()}
    assert np.array_equal(back.labels, scan.labels) if labelled else back.labels is None
    assert np.array_equal(back.rgb, scan.rgb)


def test_evidence_of_python_objects_is_refused_before_anything_is_written(scan, found, tmp_path):
    views = np.array([[1, 2], [3], [], [4]], dtype=object)
    instances = replace(found, point_to_superpoint=scan.superpoints, evidence={"views": views})
    with pytest.raises(DataError, match=r"'evidence\.views' cannot be written; got Python objects; expected numbers or text"):
        write_result(tmp_path, scan, instances)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("by_point", [True, False])
def test_instances_written_alone_come_back(found, tmp_path, by_point):
    ids = None if by_point else np.arange(40) % 12
    instances = replace(found, point_to_superpoint=ids, evidence={"views": np.arange(4)})
    write_instances(instances, tmp_path / "a.npz")
    back = read_instances(tmp_path / "a.npz")
    for name in ("bits", "num_segments", "labels", "scores", "classes"):
        assert np.array_equal(getattr(back, name), getattr(instances, name)), name
    assert np.array_equal(back.point_to_superpoint, ids) if ids is not None else back.point_to_superpoint is None
    assert back.evidence["views"].tolist() == [0, 1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    with np.load(tmp_path / "a.npz", allow_pickle=False) as data:      # for other programs
        assert np.array_equal(data["point_instance"], instances.to_labels()[0])
        assert np.array_equal(data["point_label"], instances.to_labels()[1])


@pytest.mark.parametrize("change", [
    {"classes": np.array("[chair")}, {"classes": np.array('{"a": 1}')}, {"labels": np.array(["a"] * 4)},
    {"bits": np.zeros((4, 1))}, {"bits": np.zeros((4, 2), np.uint8), "labels": np.zeros(4)},
    {"scores": np.zeros((4, 1), np.float32)}, {"scores": np.full(4, np.nan)}, {"evidence.views": np.zeros(3)},
    {"num_segments": np.array([])}, {"num_segments": np.array(-1)}, {"num_segments": np.array(2**62)},
    {"point_to_superpoint": np.zeros(40)}])
def test_instances_that_were_tampered_with_are_a_format_error(found, tmp_path, change):
    np.savez(tmp_path / "bad.npz", **{**found.to_arrays(), **change})
    with pytest.raises(FormatError, match=r"bad\.npz"):
        read_instances(tmp_path / "bad.npz")


def test_no_instances_cannot_claim_memory(tmp_path):
    nothing = Instances.from_masks(np.zeros((0, 3), bool), [], [], ("chair",), np.array([0, 1, 2]))
    bomb = {"num_segments": np.array(2**62), "bits": np.zeros((0, 2**59), np.uint8)}
    np.savez(tmp_path / "bad.npz", **{**nothing.to_arrays(), **bomb})
    with pytest.raises(FormatError, match="more superpoints than points"):
        read_instances(tmp_path / "bad.npz")


def test_files_that_are_no_instances_are_refused(found, tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_instances(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", bits=np.array([{}], dtype=object))
    write_instances(found, tmp_path / "whole.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-30])
    for name in ("text.npz", "other.npz", "pickle.npz", "cut.npz"):
        with pytest.raises(FormatError, match=name):
            read_instances(tmp_path / name)
