"""Own scans with own classes: prepared, and ready to train with the config written beside them."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d import io
from pc3d.cli import main
from pc3d.config import load_config
from pc3d.data import ScanDataset
from pc3d.data.folder import FolderScans, read_class_list
from pc3d.data.preparation import prepare
from pc3d.errors import ConfigError, DataError, FileError, FormatError

NAMES = ("chair", "desk")


@pytest.fixture
def raw(tmp_path, room):
    """Three scans in three formats; chairs are 7 in them and desks 3."""
    root = tmp_path / "raw"
    own = room.replace(labels=np.array([-1] * 2 + [7] + [-1] * 7 + [3, -1])[room.labels], superpoints=None, normals=None,
                       faces=None)
    for split, name in (("train", "a.ply"), ("train", "b.npz"), ("val", "c.xyz")):
        (root / split).mkdir(parents=True, exist_ok=True)
        io.write(own.replace(labels=None, instances=None) if name == "c.xyz" else own, root / split / name)
    (root / "val/c.labels.txt").write_text("\n".join(map(str, own.labels)))
    (root / "val/c.instances.txt").write_text("\n".join(map(str, own.instances)))
    (root / "classes.tsv").write_text("label\tname\n7\tchair\n3\tdesk\n")
    return root


def test_labels_become_places_in_the_list_whatever_the_format(raw, room, tmp_path):
    report = prepare(FolderScans.open(raw), tmp_path / "out")
    assert (report.made, report.faults) == (3, {})
    expected = np.array([-1] * 2 + [0] + [-1] * 7 + [1, -1])[room.labels]
    scans = ScanDataset(tmp_path / "out", "train,val")
    assert scans.classes == NAMES
    for scan in (scans[i] for i in range(3)):
        assert np.array_equal(scan.labels, expected)
        assert np.array_equal(scan.instances, room.instances)
        assert scan.superpoints is not None


def test_the_verb_writes_a_config_that_trains(raw, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["prepare", "folder", str(raw), str(out)]) == 0
    assert f"pc3d train {out / 'config.yaml'}" in capsys.readouterr().out
    config = load_config(out / "config.yaml")
    assert config.data.root == str(out)
    assert (config.data.train_split, config.data.val_split) == ("train", "val")
    assert config.model.decoder.num_queries == 50
    assert config.model.backbone.voxel_size > 0.02  # points of this room lie centimetres apart
    text = (out / "config.yaml").read_text()
    assert "# model.decoder.num_queries: half again as many as the 3 instances" in text
    (out / "config.yaml").write_text(text + "# mine\n")
    assert main(["prepare", "folder", str(raw), str(out)]) == 0
    assert f"kept {out / 'config.yaml'}" in capsys.readouterr().out
    assert (out / "config.yaml").read_text().endswith("# mine\n")
    small = ["model.backbone.channels=[8,16]", "model.backbone.block_reps=1", "model.decoder.num_layers=1",
             "model.decoder.d_model=32", "model.decoder.num_heads=2", "model.decoder.d_ffn=32", "train.epochs=1",
             f"train.output={tmp_path / 'run'}", "data.workers=0", "train.device=cpu"]
    assert main(["train", str(out / "config.yaml"), *small]) == 0
    assert list((tmp_path / "run").glob("*.safetensors"))


def test_scans_are_not_prepared_into_their_own_folder(raw, capsys):
    before = sorted(raw.rglob("*"))
    assert main(["prepare", "folder", str(raw), str(raw / "train" / "..")]) == 4    # or each would be there twice, to train on
    assert "the output folder is that of the raw files" in capsys.readouterr().err
    assert sorted(raw.rglob("*")) == before


def test_a_wrong_checkpoint_is_told_before_the_raw_files_are_prepared(raw, tmp_path, capsys):
    out = tmp_path / "out"
    raw_files = ["--raw", "folder", str(raw), f"data.root={out}"]
    assert main(["eval", "configs/relation3d_synth.yaml", "there_is_none", *raw_files]) == 3
    assert "no such model file" in capsys.readouterr().err
    assert not out.exists()


def test_a_split_that_is_not_there_is_told_with_those_that_are(raw, tmp_path):
    prepare(FolderScans.open(raw), tmp_path / "out")
    with pytest.raises(FileError, match="test: no scans found; got no such folder beside train, val; expected"):
        ScanDataset(tmp_path / "out", "test")


def test_a_scan_with_an_unknown_class_no_labels_or_too_few_is_a_fault_of_its_own(raw, room, tmp_path):
    (raw / "val/c.instances.txt").unlink()
    (raw / "train/d.xyz").write_text("0 0 0\n1 1 1\n")
    (raw / "train/d.labels.txt").write_text("7\n")
    io.write(room, raw / "train/a.ply")
    faults = prepare(FolderScans.open(raw), tmp_path / "out").faults
    assert sorted(faults) == ["train/a", "train/d", "val/c"]
    assert "a.ply:row 108: a label is no class of the list; got 10; expected -1 (none), 7, 3" in faults["train/a"]
    assert "d.labels.txt: the file does not fit its scan; got 1 lines; expected 2" in faults["train/d"]
    assert "no column 'instance'" in faults["val/c"]
    assert "c.instances.txt" in faults["val/c"]


def test_any_number_below_zero_is_no_instance_and_superpoints_may_have_gaps(raw, room, tmp_path):
    own = io.read(raw / "train/a.ply")
    gappy = own.replace(instances=np.where(own.instances < 0, -100, own.instances), superpoints=np.arange(len(own)) // 50 * 7)
    io.write(gappy, raw / "train/a.ply")
    assert prepare(FolderScans.open(raw, ["train"]), tmp_path / "out").faults == {}
    scan = ScanDataset(tmp_path / "out", "train")[0]
    assert np.array_equal(scan.instances, room.instances)
    assert np.array_equal(scan.superpoints, np.arange(len(own)) // 50)


def test_test_scans_need_no_labels(raw, tmp_path, room):
    (raw / "test").mkdir()
    io.write(room.replace(labels=None, instances=None), raw / "test/t.ply")
    assert prepare(FolderScans.open(raw, ["test"]), tmp_path / "out").faults == {}


@pytest.mark.parametrize(("name", "text", "numbers"), [
    ("classes.txt", "chair\ndesk\n", (0, 1)), ("classes.json", '["chair", "desk"]', (0, 1)),
    ("classes.tsv", "label\tname\n4\tchair\n2\tdesk\n", (4, 2))])
def test_a_class_list_is_names_or_names_with_numbers(tmp_path, name, text, numbers):
    (tmp_path / name).write_text(text)
    assert read_class_list(tmp_path) == (NAMES, numbers)


@pytest.mark.parametrize(("name", "text"), [
    ("classes.txt", b""), ("classes.txt", b"\xff\xfe"), ("classes.txt", b"a\na\n"),
    ("classes.tsv", b"label\tname\n1\ta\n1\tb\n"), ("classes.tsv", b"label\n1\n"), ("classes.tsv", b"label\tname\n-1\ta\n"),
    ("classes.tsv", "label\tname\n²\ta\n".encode())])
def test_a_broken_class_list_is_refused(tmp_path, name, text):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(FormatError, match="classes"):
        read_class_list(tmp_path)


def test_a_folder_that_is_no_data_set_says_what_is_missing(raw, tmp_path):
    with pytest.raises(FileError, match="no such folder"):
        FolderScans.open(tmp_path / "nowhere")
    with pytest.raises(FileError, match="no splits"):
        FolderScans.open(tmp_path)
    with pytest.raises(ConfigError, match="one of train, val"):
        FolderScans.open(raw, ["test"])
    (raw / "train/a.npz").write_bytes((raw / "train/b.npz").read_bytes())
    with pytest.raises(FileError, match="two scans have one name"):
        FolderScans.open(raw).sources()
    (raw / "classes.tsv").unlink()
    with pytest.raises(FileError, match=r"classes\.txt"):
        FolderScans.open(raw)


def test_instances_of_several_classes_are_noted(raw, tmp_path):
    scan = io.read(raw / "train/b.npz")
    io.write(scan.replace(instances=np.where(scan.instances >= 0, 4, -1)), raw / "train/b.npz")
    notes = prepare(FolderScans.open(raw), tmp_path / "out").notes
    assert list(notes) == ["train/b"]
    assert notes["train/b"][0].startswith("1 of 1 instances have points of several classes, such as 4;")


@pytest.mark.parametrize("unit", [1, 100])
def test_scans_that_are_not_in_metres_are_told(raw, tmp_path, recwarn, unit):
    from pc3d.data.own_config import write_own_config

    for name in ("a.ply", "b.npz"):
        scan = io.read(raw / "train" / name)
        io.write(scan.replace(xyz=scan.xyz * unit), raw / "train" / name)
    prepare(FolderScans.open(raw), tmp_path / "out")
    recwarn.clear()
    write_own_config(tmp_path / "out")
    assert [str(one.message).split(": ")[1][:10] for one in recwarn] == ([] if unit == 1 else ["points lie"])


def test_a_config_needs_something_to_train_on(raw, tmp_path):
    from pc3d.data.own_config import write_own_config

    for name in ("a.ply", "b.npz"):
        bare = io.read(raw / "train" / name)
        nothing = np.full(len(bare), -1)
        io.write(bare.replace(labels=nothing, instances=nothing), raw / "train" / name)
    prepare(FolderScans.open(raw, ["train"]), tmp_path / "none")
    with pytest.raises(DataError, match="no scan has an instance"):
        write_own_config(tmp_path / "none")
    prepare(FolderScans.open(raw, ["val"]), tmp_path / "out")
    with pytest.raises(DataError, match="no scan to train on"):
        write_own_config(tmp_path / "out")
