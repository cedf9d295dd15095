"""Paths that are wrong, and writes that fail half-way."""

from __future__ import annotations

import os

import numpy as np
import pytest

import pc3d.io.ply
from pc3d.errors import DataError, FileError, FormatError
from pc3d.io import READERS, WRITERS, read, write
from pc3d.structures import PointCloud


@pytest.mark.parametrize("suffix", READERS)
def test_missing_folder_and_empty_are_told_apart(tmp_path, suffix):
    with pytest.raises(FileError, match="there is no such file"):
        read(tmp_path / f"a{suffix}")
    (tmp_path / f"b{suffix}").mkdir()
    with pytest.raises(FileError, match="not a file; got a folder"):
        read(tmp_path / f"b{suffix}")
    (tmp_path / f"c{suffix}").touch()
    with pytest.raises(FormatError, match="the file is empty"):
        read(tmp_path / f"c{suffix}")


def test_a_missing_file_names_its_namesakes(tmp_path):
    (tmp_path / "room.laz").touch()
    with pytest.raises(FileError, match=r"holds room\.laz"):
        read(tmp_path / "room.las")
    with pytest.raises(FileError, match="does not exist either"):
        read(tmp_path / "nowhere/room.las")


def test_an_unknown_suffix_names_the_known_ones(put, scan, tmp_path):
    with pytest.raises(FormatError, match=r"unknown file type; got '\.stl'; expected one of \.ply, \.npz"):
        read(put("a.stl", "solid"))
    with pytest.raises(FormatError, match=r"unknown file type; got ''"):
        write(scan, tmp_path / "scan")


def test_suffixes_may_be_capitals_and_paths_text(tmp_path, scan):
    write(scan, str(tmp_path / "SCAN.PLY"))
    assert len(read(str(tmp_path / "SCAN.PLY"))) == 60


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_cloud_without_points_is_not_written(tmp_path, suffix):
    with pytest.raises(DataError, match="without points"):
        write(PointCloud(np.zeros((0, 3), np.float32)), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_folder_that_is_not_there_is_a_file_error(tmp_path, scan, suffix):
    with pytest.raises(FileError, match="cannot be written"):
        write(scan.replace(faces=None), tmp_path / f"nowhere/a{suffix}")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, scan, monkeypatch):
    path = tmp_path / "scan.ply"
    write(scan, path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pc3d.io.ply, "_face_table", full)
    with pytest.raises(FileError, match="No space left on device"):
        write(scan[:50], path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["scan.ply"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_the_file_it_leads_to_is_written(tmp_path, scan, there):
    for name in ("far", "near"):
        (tmp_path / name).mkdir()
    if there:
        write(scan[:50], tmp_path / "far/scan.ply")
    (tmp_path / "near/link.ply").symlink_to("../far/scan.ply")
    write(scan, tmp_path / "near/link.ply")
    assert (tmp_path / "near/link.ply").is_symlink()
    assert len(read(tmp_path / "far/scan.ply")) == len(scan)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["link.ply", "scan.ply"]


def test_written_files_have_the_users_usual_permissions(tmp_path, scan):
    write(scan, tmp_path / "scan.ply")
    (tmp_path / "other").touch()
    assert (tmp_path / "scan.ply").stat().st_mode == (tmp_path / "other").stat().st_mode
