"""S3DIS in its raw layout: the rooms come back, and the broken lines of the release are mended by rule and reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pc3d.config import load_config
from pc3d.data import ScanDataset
from pc3d.data.preparation import prepare
from pc3d.data.s3dis import CLASSES, S3DIS
from pc3d.data.s3dis_text import read_points
from pc3d.errors import ConfigError, DataError, FileError, FormatError, Pc3dError
from pc3d.synth.export_s3dis import format_points, objects_of, room_folder

REPOSITORY = Path(__file__).resolve().parents[2]


def read_room(raw: Path, key: str = "Area_1/office_1"):
    recipe = S3DIS.open(raw)
    return recipe.read(next(source for source in recipe.sources() if source.key == key))


def test_points_colours_labels_and_objects_survive_the_raw_layout_exactly(s3dis_raw, room):
    cloud, notes = read_room(s3dis_raw)
    assert notes == []
    assert np.array_equal(cloud.xyz, room.xyz)
    assert np.array_equal(cloud.rgb, room.rgb)
    numbers = []
    for name, rows in objects_of(room):
        rows = rows[once(room)[rows]]
        assert set(cloud.labels[rows]) == {CLASSES.index(name)}
        numbers.append(set(cloud.instances[rows].tolist()))
    assert all(len(number) == 1 for number in numbers)
    assert len(set.union(*numbers)) == len(numbers)


def once(cloud):
    """Points that share their place with no other: where walls meet, the room has two points in one place."""
    _, row, count = np.unique(cloud.xyz, axis=0, return_inverse=True, return_counts=True)
    return count[row.reshape(-1)] == 1


def test_every_point_has_a_class_and_stuff_is_an_instance_too(s3dis_raw):
    cloud, _ = read_room(s3dis_raw)
    assert cloud.labels.min() == 0
    assert {CLASSES[label] for label in np.unique(cloud.labels)} == {"ceiling", "floor", "wall", "table", "chair", "clutter"}
    assert len(np.unique(cloud.instances)) == 7


def test_the_order_of_the_classes_is_written_down_once(s3dis_raw):
    table = (REPOSITORY / "datasets/s3dis/classes.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[1] for line in table] == list(CLASSES)
    assert CLASSES.index("table") < CLASSES.index("chair")


@pytest.mark.parametrize(("line", "row"), [
    ("1.5 2.5 0.5 185\x10187 20", [1.5, 2.5, 0.5, 185, 187, 20]),          # a separator became a control character
    ("1.5 2.5 0.5 185\x00187 20", [1.5, 2.5, 0.5, 185, 187, 20]),
    ("1.5 -9.1\x000 1.785 146 137 106", [1.5, -9.1, 1.785, 146, 137, 106]),  # a digit did: 7 numbers if it were a separator
    ("1.5 2.5 0.5 1\x007 187 20", [1.5, 2.5, 0.5, 107, 187, 20]),
    ("1.5 2.5 0.5 185187 20", None),
    ("1.5 2.5 0.5 185 187", None),
    ("1.5 2.5 nan 1 2 3", None),
    ("1.5 2.5 0.5 1 2 300", None),
    ("1.5 2.5 abc 1 2 3", None),
])
def test_a_broken_line_is_mended_or_dropped_and_always_reported(tmp_path, line, row):
    path = tmp_path / "ceiling_1.txt"
    good = ["0.1 0.2 0.3 1 2 3"] * 200
    path.write_bytes("\n".join([*good[:100], line, *good[100:]]).encode("latin-1"))
    rows, notes = read_points(path)
    assert len(rows) == 200 + (row is not None)
    assert row is None or rows[100].tolist() == pytest.approx(row)
    assert len(notes) == 1
    assert "ceiling_1.txt:101" in notes[0]


@pytest.mark.parametrize("text", ["0 0 0 1 2\n" * 5, "# nothing\n", "hello\n" * 3, "\n"])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "chair_1.txt").write_text(text)
    with pytest.raises(FormatError, match=r"chair_1\.txt"):
        read_points(tmp_path / "chair_1.txt")


def test_a_misnamed_room_file_is_found(s3dis_raw, room):
    folder = s3dis_raw / "Area_1/office_1"
    (folder / "office_1.txt").rename(folder / "off_ice_1.txt")
    (folder / ".DS_Store.txt").write_bytes(b"\0")
    assert len(read_room(s3dis_raw)[0]) == len(room)


def test_an_area_is_its_rooms_one_after_another_with_objects_of_their_own(s3dis_raw, room):
    recipe = S3DIS.open(s3dis_raw, unit="area")
    assert [source.key for source in recipe.sources()] == ["Area_1/Area_1", "Area_5/Area_5"]
    area, notes = recipe.read(recipe.sources()[0])
    first, second = read_room(s3dis_raw)[0], read_room(s3dis_raw, "Area_1/office_2")[0]
    assert notes == []
    assert np.array_equal(area.xyz, np.concatenate([first.xyz, second.xyz]))
    assert np.array_equal(area.labels, np.concatenate([first.labels, second.labels]))
    assert np.array_equal(area.instances, np.concatenate([first.instances, second.instances + 7]))
    assert recipe.parameters["unit"] == "area"


def test_stairs_are_clutter_and_an_unknown_class_is_a_fault_of_the_room(s3dis_raw):
    folder = s3dis_raw / "Area_1/office_1/Annotations"
    (folder / "table_1.txt").rename(folder / "stairs_1.txt")
    (folder / "Icon").write_text("")
    (folder / ".chair_9.txt.swp").write_text("")
    cloud, notes = read_room(s3dis_raw)
    assert (cloud.labels == CLASSES.index("clutter")).sum() == 72
    assert notes == []
    (folder / "chair_1.txt").rename(folder / "throne_1.txt")
    with pytest.raises(DataError, match=r"throne_1\.txt: this is no class of S3DIS; got 'throne'; expected one of ceiling"):
        read_room(s3dis_raw)


def test_points_without_an_annotation_stay_without_a_label(s3dis_raw):
    path = s3dis_raw / "Area_1/office_1/Annotations/table_1.txt"
    path.write_text("".join(path.read_text().splitlines(True)[:-20]))
    cloud, notes = read_room(s3dis_raw)
    assert (cloud.labels == -1).sum() == 20
    assert (cloud.instances[cloud.labels == -1] == -1).all()
    assert notes == ["office_1: 20 points are in no annotation and stay without a label"]


@pytest.mark.parametrize(("file", "keep", "words"), [
    ("office_1.txt", 0.5, "office_1.txt: the room has fewer points than its annotations; got 126; expected 252"),
    ("office_1.txt", 0.51, "office_1.txt:129: the file is cut off; got "),
    ("Annotations/table_1.txt", 0, "Annotations: the annotations lack points of the room; got 36 of 252 are in none")])
def test_a_room_that_was_copied_in_part_is_a_fault(s3dis_raw, file, keep, words):
    path = s3dis_raw / "Area_1/office_1" / file
    lines = path.read_text().splitlines(True)
    if keep:
        path.write_text("".join(lines[:int(keep * 252)]) + ("0.123 4" if keep > 0.5 else ""))
    else:
        path.unlink()
    with pytest.raises(Pc3dError, match=words):
        read_room(s3dis_raw)


def test_an_area_without_rooms_is_a_fault_and_missing_areas_are_told(s3dis_raw, tmp_path):
    (s3dis_raw / "Area_3").mkdir()
    report = prepare(S3DIS.open(s3dis_raw), tmp_path / "out")
    assert report.made == 3
    assert "no such file" in report.faults["Area_3/*"]
    assert report.remarks == [f"{s3dis_raw} has no Area_2, Area_4, Area_6"]


def test_a_room_without_annotations_or_points_is_its_own_fault(s3dis_raw, tmp_path):
    for path in (s3dis_raw / "Area_1/office_1/Annotations").iterdir():
        path.unlink()
    (s3dis_raw / "Area_1/office_2/office_2.txt").unlink()
    report = prepare(S3DIS.open(s3dis_raw), tmp_path / "out")
    assert report.made == 1
    assert "not annotated" in report.faults["Area_1/office_1"]
    assert "office_2.txt" in report.faults["Area_1/office_2"]


def test_release_and_areas_are_found_and_told_apart(s3dis_raw, tmp_path):
    recipe = S3DIS.open(s3dis_raw.parent)
    assert recipe.splits == ("Area_1", "Area_5")
    assert recipe.parameters["release"] == "aligned"
    (tmp_path / "Stanford3dDataset_v1.2" / "Area_1").mkdir(parents=True)
    with pytest.raises(FileError, match="more than one release"):
        S3DIS.open(tmp_path)
    assert S3DIS.open(tmp_path / "Stanford3dDataset_v1.2").parameters["release"] == "v1.2"
    with pytest.raises(ConfigError, match="Area_6"):
        S3DIS.open(s3dis_raw, ["Area_7"])
    with pytest.raises(FileError, match="no areas"):
        S3DIS.open(s3dis_raw / "Area_1")


def test_area_5_stays_out_of_training(s3dis_raw, tmp_path, room):
    assert prepare(S3DIS.open(s3dis_raw), tmp_path / "out").faults == {}
    data = load_config(REPOSITORY / "configs/relation3d_s3dis.yaml").data
    assert set(data.train_split.split(",")) == {f"Area_{k}" for k in (1, 2, 3, 4, 6)}
    assert data.val_split == "Area_5"
    dataset = ScanDataset(tmp_path / "out", data.val_split)
    assert [path.name for path in dataset.paths] == ["hallway_6"]
    assert dataset.classes == CLASSES
    assert dataset[0].superpoints is not None
    assert len(dataset[0]) == len(room)


def test_exported_rooms_lie_in_the_areas_of_their_split(tmp_path, room):
    assert room_folder(tmp_path, 4, "train", "office") == tmp_path / "Area_6/office_5"
    assert room_folder(tmp_path, 4, "val", "bathroom") == tmp_path / "Area_5/WC_5"
    with pytest.raises(ConfigError, match="no such split"):
        room_folder(tmp_path, 4, "test", "office")
    assert format_points(room[:1])[0].count(" ") == 5
