"""Preparation goes on where it stopped, past what is broken, and leaves nothing half done."""

from __future__ import annotations

import json
import mmap
import os
import shutil

import numpy as np
import pytest

from pc3d import io
from pc3d.cli import main
from pc3d.data import ScanDataset
from pc3d.data.preparation import prepare, scene_folders
from pc3d.data.prepared import ATTRIBUTES, COLUMNS, check_scene, is_current, read_record, read_scene, write_scene
from pc3d.data.recipes import MODES, Choices, earlier_choices, open_recipe
from pc3d.data.scannetv2 import ScanNetV2
from pc3d.errors import ConfigError, DataError, FileError, FormatError
from pc3d.structures import PointCloud
from pc3d.superpoints import segment_mesh
from pc3d.synth.export_prepared import export_nostuff


@pytest.fixture
def scene(tmp_path, room):
    write_scene(room, tmp_path / "val" / "scene", {"source": "abc"})
    return tmp_path / "val" / "scene"


def test_a_scene_comes_back_as_it_was_but_for_faces_and_the_last_bits_of_normals(scene, room):
    cloud = read_scene(scene)
    for name in ("xyz", "rgb", "labels", "instances", "superpoints"):
        assert np.array_equal(getattr(cloud, name), getattr(room, name)), name
    assert np.abs(cloud.normals - room.normals).max() < 0.01
    assert np.allclose(np.linalg.norm(cloud.normals, axis=1), 1)
    assert cloud.faces is None


def test_a_point_takes_28_bytes(scene, room):
    assert sum(np.load(scene / f"{name}.npy").nbytes for name in COLUMNS if name not in ATTRIBUTES) == 28 * len(room)


def test_map_coordinates_keep_their_origin(tmp_path):
    cloud = PointCloud.from_world(np.array([[4e5, 5e6, 100.123], [4e5 + 1, 5e6, 100.5]]))
    write_scene(cloud, tmp_path / "a", {})
    assert np.allclose(read_scene(tmp_path / "a").world_xyz, cloud.world_xyz, atol=1e-4)


def test_a_scene_leaves_what_is_being_written_of_another_alone(tmp_path, room):
    """Two workers at once, one at "scan", the other at "scan.v2"; what a killed run left of "scan" goes."""
    for name in (".scan.v2.7.tmp", ".scan.7.tmp"):
        (tmp_path / name).mkdir()
    write_scene(room, tmp_path / "scan", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".scan.v2.7.tmp", "scan"]


@pytest.mark.parametrize("change", [
    {"origin": None}, {"origin": "here"}, {"origin": [0, 0]}, {"points": None}, {"instances": "many"}, {"superpoints": None},
    {"columns": {}}, {"columns": {"xyz": 3}}])
def test_a_record_that_is_not_whole_is_refused(scene, change):
    record = json.loads((scene / "scene.json").read_text())
    (scene / "scene.json").write_text(json.dumps(record | change))
    for read in (read_scene, read_record, lambda folder: check_scene(folder, 20)):
        with pytest.raises(FormatError, match="the record lacks counts, origin or columns"):
            read(scene)
    assert not is_current(scene, "abc")


def test_columns_are_mapped_not_loaded(scene):
    cloud = read_scene(scene)
    base = cloud.xyz
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)
    cloud.xyz[0] = 7  # stays here
    assert (read_scene(scene).xyz[0] != 7).all()


def test_an_id_that_does_not_fit_its_type_is_refused_and_leaves_nothing(tmp_path):
    cloud = PointCloud(xyz=np.zeros((1, 3)), labels=np.array([40_000]))
    with pytest.raises(DataError, match="labels"):
        write_scene(cloud, tmp_path / "a", {})
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_run_are_swept_away(tmp_path, room):
    (tmp_path / ".a.123.tmp").mkdir()
    write_scene(room, tmp_path / "a", {})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_made_is_a_file_error(tmp_path, room):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        write_scene(room, tmp_path / "file" / "scene", {})


def test_the_check_finds_a_flipped_byte_a_missing_and_a_cut_column(scene):
    check_scene(scene, 18)
    data = bytearray((scene / "xyz.npy").read_bytes())
    data[-1] ^= 1
    (scene / "xyz.npy").write_bytes(data)
    with pytest.raises(FormatError, match=r"xyz\.npy: the column is not what was written"):
        check_scene(scene, 18)
    (scene / "xyz.npy").write_bytes(data[:-4])
    with pytest.raises(FormatError, match=r"xyz\.npy"):
        read_scene(scene)
    assert not is_current(scene, "abc")
    (scene / "xyz.npy").unlink()
    with pytest.raises(FormatError, match=r"xyz\.npy"):
        read_scene(scene)


@pytest.mark.parametrize("values", [np.zeros((252, 3)), np.zeros((251, 3), np.float32), np.zeros(252, np.float32)])
def test_a_column_that_does_not_fit_its_record_is_refused(scene, values):
    np.save(scene / "xyz.npy", values)
    with pytest.raises(FormatError, match=r"xyz\.npy: the column does not fit its record"):
        read_scene(scene)


def test_the_check_finds_labels_without_a_class(scene):
    with pytest.raises(DataError, match="labels"):
        check_scene(scene, 5)


@pytest.mark.parametrize("record", ["{", "[]", '{"format": 99}', '{"format": 1}', '{"format": 1, "points": 3, "columns": 5}'])
def test_a_broken_record_says_so(scene, record):
    (scene / "scene.json").write_text(record)
    with pytest.raises(FormatError, match=r"scene\.json"):
        read_record(scene)


def test_a_record_cannot_name_a_file_elsewhere(scene):
    record = json.loads((scene / "scene.json").read_text())
    record["columns"]["../../secret"] = {}
    (scene / "scene.json").write_text(json.dumps(record))
    with pytest.raises(FormatError, match="unknown column"):
        read_scene(scene)


def test_what_is_done_is_kept_and_what_has_changed_is_made_again(scannet_raw, tmp_path):
    recipe, out = ScanNetV2.open(scannet_raw), tmp_path / "out"
    prepare(recipe, out)
    seen = []
    report = prepare(recipe, out, progress=lambda done, total, result: seen.append((done, total, result.status)))
    assert (report.made, report.kept) == (0, 4)
    assert seen == [(i, 4, "kept") for i in range(1, 5)]
    path = scannet_raw / "scans/scene0001_00/scene0001_00.aggregation.json"
    path.write_text(path.read_text() + " ")
    (out / "val/scene0000_01/labels.npy").unlink()
    report = prepare(recipe, out)
    assert (report.made, report.kept, report.faults) == (2, 2, {})


def test_scenes_whose_raw_files_are_gone_are_named_and_stay(scannet_raw, tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare(ScanNetV2.open(scannet_raw), out).gone == []
    (scannet_raw / "scannetv2_train.txt").write_text("scene0000_00\n")
    shutil.rmtree(scannet_raw / "scans/scene0001_00")
    assert main(["prepare", "scannetv2", str(scannet_raw), str(out)]) == 0
    shown = capsys.readouterr().err
    assert "1 prepared scenes have no raw files" in shown
    assert "and stay: train/scene0001_00. Delete their folders" in shown
    assert len(scene_folders(out)) == 4
    assert prepare(ScanNetV2.open(scannet_raw, ["val"]), out).gone == []    # nobody looked for those of train
    (scannet_raw / "scannetv2_train.txt").write_text("scene0001_00\n")      # none of which is there: the split is gone
    assert main(["prepare", "scannetv2", str(scannet_raw), str(out)]) == 0
    assert "and stay: train/scene0000_00, train/scene0001_00. Delete" in capsys.readouterr().err


def test_parts_of_a_scene_are_not_gone_while_its_raw_files_are_there(scannetpp_raw, tmp_path):
    report = prepare(open_recipe("scannetpp", scannetpp_raw, Choices(unit="chunk")), tmp_path / "out")
    assert any(read_record(folder)["scene"] != folder.name for folder in scene_folders(tmp_path / "out"))
    assert report.gone == []


def test_a_faulty_scene_is_reported_with_its_file_and_the_rest_goes_on(scannet_raw, tmp_path):
    (scannet_raw / "scans/scene0000_00/scene0000_00.aggregation.json").unlink()
    (scannet_raw / "scans/scene0000_01/scene0000_01_vh_clean_2.ply").write_bytes(b"ply\n")
    report = prepare(ScanNetV2.open(scannet_raw), tmp_path / "out")
    assert (report.made, sorted(report.faults)) == (2, ["train/scene0000_00", "val/scene0000_01"])
    assert "scene0000_00.aggregation.json" in report.faults["train/scene0000_00"]
    assert "scene0000_01_vh_clean_2.ply" in report.faults["val/scene0000_01"]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["faults"] == report.faults
    assert sorted(manifest["scenes"]) == ["test/scene0000_02", "train/scene0001_00"]


def test_a_changed_label_map_makes_the_scenes_again(scannet_raw, tmp_path):
    prepare(ScanNetV2.open(scannet_raw, ["train"]), tmp_path / "out")
    path = scannet_raw / "scannetv2-labels.combined.tsv"
    path.write_text(path.read_text() + "9999\tthrone\tchair\t5\tchair\n")
    report = prepare(ScanNetV2.open(scannet_raw), tmp_path / "out")
    assert (report.made, report.kept) == (4, 0)


def test_superpoints_are_scannets_own_unless_the_stable_mode_is_asked_for(scannet_raw, tmp_path):
    for mode in MODES:
        out = tmp_path / mode
        recipe = open_recipe("scannetv2", scannet_raw, Choices(("val",), superpoints=mode))
        prepare(recipe, out)
        mesh = io.read(scannet_raw / "scans/scene0000_01/scene0000_01_vh_clean_2.ply")
        expected = segment_mesh(mesh.xyz, mesh.faces, exact=mode == "exact")
        assert np.array_equal(read_scene(out / "val/scene0000_01").superpoints, expected)
        assert json.loads((out / "manifest.json").read_text())["parameters"]["superpoints"]["exact"] == (mode == "exact")
    assert open_recipe("scannetv2", scannet_raw).superpoints.exact


@pytest.mark.parametrize(("dataset", "choices", "words"), [
    ("scannet", Choices(), "one of scannetv2, scannet200"),
    ("scannetv2", Choices(unit="room"), "no choice of unit"),
    ("s3dis", Choices(superpoints="exact"), "no choice of superpoints"),
    ("s3dis", Choices(unit="house"), "one of room, area"),
    ("folder", Choices(superpoints="fast"), "one of exact, stable"),
])
def test_a_choice_that_a_data_set_does_not_know_is_refused(tmp_path, dataset, choices, words):
    with pytest.raises(ConfigError, match=words):
        open_recipe(dataset, tmp_path, choices)


def test_nan_vertices_are_a_fault_of_their_scene(scannet_raw, tmp_path):
    path = scannet_raw / "scans/scene0000_00/scene0000_00_vh_clean_2.ply"
    data = bytearray(path.read_bytes())
    start = data.index(b"end_header\n") + len(b"end_header\n")
    data[start:start + 4] = np.float32("nan").tobytes()
    path.write_bytes(data)
    faults = prepare(ScanNetV2.open(scannet_raw, ["train"]), tmp_path / "out").faults
    assert "row 0" in faults["train/scene0000_00"]


def test_the_manifest_counts_hashes_and_names_versions_and_parameters(scannet_raw, tmp_path, room):
    prepare(ScanNetV2.open(scannet_raw), tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    superpoints = len(np.unique(room.superpoints))
    assert manifest["splits"]["train"] == {"scenes": 2, "points": 2 * len(room), "superpoints": 2 * superpoints, "instances": 6}
    assert manifest["parameters"]["superpoints"] == {"k_threshold": 0.01, "min_size": 20, "exact": True}
    assert {"pc3d", "numpy", "torch", "format"} == set(manifest["versions"])
    assert len(manifest["scenes"]["val/scene0000_01"]["columns"]["xyz"]["sha256"]) == 64


def test_scenes_made_with_other_parameters_are_found_by_the_check(scannet_raw, tmp_path, monkeypatch):
    out = tmp_path / "out"
    prepare(ScanNetV2.open(scannet_raw, ["train"]), out)
    monkeypatch.setattr(ScanNetV2, "parameters", property(lambda self: {"other": 1}))
    report = prepare(ScanNetV2.open(scannet_raw, ["val"]), out)
    assert sorted(report.faults) == ["train/scene0000_00", "train/scene0001_00"]


def test_another_data_set_is_not_overwritten(scannet_raw, tmp_path):
    (tmp_path / "manifest.json").write_text('{"dataset": "s3dis"}')
    with pytest.raises(ConfigError, match="another data set"):
        prepare(ScanNetV2.open(scannet_raw), tmp_path)


def test_a_worker_process_makes_the_same_bytes(scannet_raw, tmp_path):
    recipe = ScanNetV2.open(scannet_raw, ["val"])  # one scene, so that only one process has to start
    for workers in (1, 2):
        assert prepare(recipe, tmp_path / str(workers), workers=workers).made == 1
    one, two = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in "12")
    assert one == two


def test_the_verb_prepares_and_its_exit_code_tells_of_faults(scannet_raw, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["prepare", "scannetv2", str(scannet_raw), str(out), "--split", "train"]) == 0
    assert "2 scenes made, 0 kept, 0 with faults" in capsys.readouterr().out
    os.truncate(scannet_raw / "scans/scene0000_00/scene0000_00.aggregation.json", 20)
    assert main(["prepare", "scannetv2", str(scannet_raw), str(out)]) == 3
    shown = capsys.readouterr()
    assert "2 scenes made, 1 kept, 1 with faults" in shown.out
    assert "train/scene0000_00" in shown.err
    assert len(scene_folders(out)) == 4
    assert main(["prepare", "scannet", str(scannet_raw), str(out)]) == 4
    assert "scannetv2, scannet200, scannetpp, s3dis, folder, inst_nostuff" in capsys.readouterr().err


@pytest.mark.parametrize(("dataset", "choices"), [
    ("scannetv2", Choices()), ("scannetv2", Choices(superpoints="stable")), ("scannet200", Choices(superpoints="exact")),
    ("s3dis", Choices(unit="area")), ("scannetpp", Choices(unit="scene", superpoints="stable")),
    ("inst_nostuff", Choices(labels="s3dis-softgroup"))])
def test_more_of_a_data_set_is_prepared_as_the_first_of_it_was(dataset, choices, request, tmp_path, room):
    if dataset == "inst_nostuff":
        raw = tmp_path / "family"
        export_nostuff(room.replace(labels=np.minimum(room.labels, 5)), raw / "val/scene0000_01_inst_nostuff.pth")
    else:
        raw = request.getfixturevalue({"scannet200": "scannet_raw", "scannetv2": "scannet_raw"}.get(dataset, f"{dataset}_raw"))
    assert prepare(open_recipe(dataset, raw, choices), tmp_path / "out").faults == {}
    again = prepare(open_recipe(dataset, raw, earlier_choices(tmp_path / "out", dataset, ())), tmp_path / "out")
    assert again.made == 0
    assert again.kept > 0
    assert earlier_choices(tmp_path / "nothing", dataset, ("val",)) == Choices(("val",))


def test_a_prepared_data_set_that_was_copied_in_part_says_so(scannet_raw, tmp_path, recwarn):
    prepare(ScanNetV2.open(scannet_raw), tmp_path / "out")
    assert len(ScanDataset(tmp_path / "out", "train")) == 2
    assert not [warning for warning in recwarn if "manifest" in str(warning.message)]
    shutil.rmtree(tmp_path / "out/train/scene0001_00")
    with pytest.warns(UserWarning, match="1 scenes that the manifest lists are not here; got no train/scene0001_00"):
        assert len(ScanDataset(tmp_path / "out", "train")) == 1
    ScanDataset(tmp_path / "out", "val")  # nothing is missing there
