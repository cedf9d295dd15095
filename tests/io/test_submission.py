"""Submissions of ScanNet and ScanNet++: written, validated, read back; paths stay inside the folder both ways."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from pc3d.errors import DataError, FileError, FormatError
from pc3d.io.submission import check_submission, read_submission, write_submission, zip_submission
from pc3d.metrics import InstanceAP
from pc3d.structures import Instances

IDS = {"cabinet": 3, "bed": 4, "otherfurniture": 39}
SCENE = "scene0707_00"


def make_instances(seed=0, count=6, points=400):
    rng = np.random.default_rng(seed)
    segment = np.sort(rng.integers(20, size=points))
    return Instances.from_masks(rng.random((count, 20)) < 0.3, rng.integers(3, size=count), rng.random(count) ** 8,
                                tuple(IDS), point_to_superpoint=segment)


@pytest.fixture
def folder(tmp_path) -> Path:
    write_submission(tmp_path / "sub", SCENE, make_instances(), IDS)
    return tmp_path / "sub"


def test_the_format_is_the_benchmarks(folder):
    lines = (folder / f"{SCENE}.txt").read_text().splitlines()
    assert len(lines) == 6
    for row, line in enumerate(lines):
        path, number, score = line.split(" ")
        assert path == f"predicted_masks/{SCENE}_{row:03d}.txt"
        assert (folder / path).read_text().splitlines() == [str(int(bit)) for bit in make_instances().point_masks[row]]
        assert int(number) == list(IDS.values())[make_instances().labels[row]]
        assert np.float32(score) == make_instances().scores[row]


def test_what_is_read_back_is_what_was_written(folder):
    back, own = read_submission(folder, SCENE, IDS, 400), make_instances()
    assert np.array_equal(back.point_masks, own.point_masks)
    assert np.array_equal(back.labels, own.labels)
    assert np.array_equal(back.scores, own.scores)
    assert back.classes == tuple(IDS)


@pytest.mark.parametrize("seed", range(5))
def test_ap_of_what_is_read_back_is_the_ap_from_memory(seed, tmp_path):
    rng = np.random.default_rng(seed)
    own, back = (InstanceAP(tuple(IDS), min_points=10) for _ in range(2))
    for scene in range(3):
        instances = make_instances(seed=10 * seed + scene, count=25)
        ids = np.repeat(np.arange(8), 50)
        labels = rng.integers(-1, 3, size=8)[ids]
        write_submission(tmp_path, f"scene{scene}", instances, IDS)
        own.add(labels, ids, instances)
        back.add(labels, ids, read_submission(tmp_path, f"scene{scene}", IDS, 400))
    assert own.result().to_dict() == pytest.approx(back.result().to_dict(), abs=1e-12, nan_ok=True)


def test_a_scene_where_nothing_was_found_is_an_empty_listing(tmp_path):
    write_submission(tmp_path, SCENE, make_instances(count=0), IDS)
    assert (tmp_path / f"{SCENE}.txt").read_bytes() == b""
    assert len(read_submission(tmp_path, SCENE, IDS, 400)) == 0


def test_a_whole_submission_is_checked_and_zipped_at_top_level(folder, tmp_path):
    assert check_submission(folder, IDS, {SCENE: 400}) == {SCENE: 6}
    archive = zip_submission(folder, tmp_path / "sub.zip")
    names = zipfile.ZipFile(archive).namelist()
    assert names[0] == f"{SCENE}.txt"
    assert all(name.startswith("predicted_masks/") for name in names[1:])
    assert len(names) == 7


def test_missing_scenes_and_strangers_are_refused(folder):
    with pytest.raises(FormatError, match=r"no scene0001_00\.txt"):
        check_submission(folder, IDS, {SCENE: 400, "scene0001_00": 400})
    (folder / "readme.md").write_text("hello")
    with pytest.raises(FormatError, match=r"belong to no scene; got readme\.md"):
        check_submission(folder, IDS, {SCENE: 400})


@pytest.mark.parametrize("path", [
    "../outside.txt", "/etc/passwd", "predicted_masks/../../outside.txt", "C:/outside.txt", "..\\outside.txt", "~/outside.txt",
    "\\\\server\\outside.txt", ".."])
def test_paths_out_of_the_folder_are_refused_before_anything_is_read(folder, path):
    (folder.parent / "outside.txt").write_text("1\n" * 400)
    (folder / f"{SCENE}.txt").write_text(f"{path} 3 0.5\n")
    with pytest.raises(FormatError, match=rf"{SCENE}\.txt:1: .*stay inside the folder"):
        read_submission(folder, SCENE, IDS, 400)


def test_links_are_refused_as_mask_as_folder_and_as_listing(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mask.txt").write_text("1\n" * 400)
    (folder / "link").symlink_to(outside)
    (folder / "predicted_masks" / "link.txt").symlink_to(outside / "mask.txt")
    for path in ("link/mask.txt", "predicted_masks/link.txt"):
        (folder / f"{SCENE}.txt").write_text(f"{path} 3 0.5\n")
        with pytest.raises(FormatError, match="through a link"):
            read_submission(folder, SCENE, IDS, 400)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "predicted_masks").symlink_to(outside)
    (folder / "predicted_masks" / f"{SCENE}_000.txt").unlink()
    (folder / "predicted_masks" / f"{SCENE}_000.txt").symlink_to(outside / "mask.txt")
    for place in (tmp_path / "new", folder):
        with pytest.raises(FileError, match="not written through a link"):
            write_submission(place, SCENE, make_instances(), IDS)
    assert (outside / "mask.txt").read_text() == "1\n" * 400
    (folder / "scene1.txt").symlink_to(outside / "mask.txt")
    with pytest.raises(FormatError, match="may not be a link"):
        read_submission(folder, "scene1", IDS, 400)


@pytest.mark.parametrize("scene", ["../scene", "a/b", "/tmp/scene", "scene 1", "", ".hidden", "scene\n1"])
def test_no_name_that_makes_another_path_is_written(scene, tmp_path):
    with pytest.raises(DataError, match="name of a scene"):
        write_submission(tmp_path / "sub", scene, make_instances(), IDS)
    assert not (tmp_path / "sub").exists()


@pytest.mark.parametrize(("text", "message"), [
    ("predicted_masks/scene0707_00_000.txt 3\n", "txt:1: a line is: mask, class id, confidence"),
    ("\n", "txt:1: a line is"),
    ("predicted_masks/scene0707_00_000.txt 3 high\n", "txt:1: id or confidence is no number"),
    ("predicted_masks/scene0707_00_000.txt 3.5 0.5\n", "no number"),
    ("predicted_masks/scene0707_00_000.txt 3 1.5\n", r"confidence lies in \[0, 1\]; got 1.5"),
    ("predicted_masks/scene0707_00_000.txt 3 nan\n", r"confidence lies in \[0, 1\]; got nan"),
    ("predicted_masks/scene0707_00_000.txt 5 0.5\n", "no class has this id; got 5; expected one of 3, 4, 39"),
    ("predicted_masks/scene0707_00_099.txt 3 0.5\n", "there is no such mask"),
    ("predicted_masks 3 0.5\n", "there is no such mask"),
    ("predicted_masks/scene0707_00_000.txt 3 0.5\n" * 2, "txt:2: this mask is listed twice"),
])
def test_broken_listings_are_named_by_line(folder, text, message):
    (folder / f"{SCENE}.txt").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_submission(folder, SCENE, IDS, 400)


@pytest.mark.parametrize(("content", "message"), [
    ("1\n" * 399, "got 399 lines; expected 400"), ("1\n" * 401, "401 lines"), ("1\n" * 200 + "2\n" * 200, "_000.txt:201"),
    ("1 " * 400, "_000.txt:1"), ("", "0 lines"), ("1\n" * 5000, "10000 bytes"), ("01\n" * 400, "one 0 or 1 a line")])
def test_broken_masks_are_named_by_line(folder, content, message):
    (folder / "predicted_masks" / f"{SCENE}_000.txt").write_text(content)
    with pytest.raises(FormatError, match=message):
        read_submission(folder, SCENE, IDS, 400)


def test_masks_of_other_programs_are_read(folder):
    mask = folder / "predicted_masks" / f"{SCENE}_000.txt"
    expected = make_instances().point_masks[0]
    for text in (mask.read_text().replace("\n", "\r\n"), mask.read_text().rstrip("\n")):
        mask.write_bytes(text.encode())
        assert np.array_equal(read_submission(folder, SCENE, IDS, 400).point_masks[0], expected)


def test_what_the_benchmark_does_not_know_is_not_written(tmp_path):
    masks = np.ones((1, 5), dtype=bool)
    with pytest.raises(DataError, match=r"instance 0: the benchmark has no such class; got piano"):
        write_submission(tmp_path, SCENE, Instances.from_masks(masks, [0], [0.5], ("piano",)), IDS)
    with pytest.raises(DataError, match="confidence"):
        write_submission(tmp_path, SCENE, Instances.from_masks(masks, [0], [1.5], ("bed",)), IDS)


def test_a_missing_folder_or_scene_is_a_file_error(tmp_path):
    with pytest.raises(FileError, match="no such folder"):
        read_submission(tmp_path / "none", SCENE, IDS)
    with pytest.raises(FileError, match="no such file"):
        read_submission(tmp_path, SCENE, IDS)


def test_a_second_run_leaves_no_masks_of_the_first(folder):
    write_submission(folder, f"{SCENE}_1", make_instances(count=2), IDS)     # another scene, whose name begins alike
    write_submission(folder, SCENE, make_instances(count=3), IDS)
    masks = [f"{SCENE}_000.txt", f"{SCENE}_001.txt", f"{SCENE}_002.txt", f"{SCENE}_1_000.txt", f"{SCENE}_1_001.txt"]
    assert sorted(path.name for path in (folder / "predicted_masks").iterdir()) == masks
    archive = zip_submission(folder, folder.with_name("sub.zip"))
    assert len(zipfile.ZipFile(archive).namelist()) == 2 + len(masks)
