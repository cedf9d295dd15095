"""``pc3d frames`` says what was read, what was skipped and why, and what to change for the poses to fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pc3d import io
from pc3d.cli import main
from pc3d.structures import PointCloud

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def folder(tmp_path):
    """Six views into a corner of three slanted patches, from a camera that moves; the fourth pose is lost."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[:24, :32]
    poses, points = [], []
    for i in range(6):
        pose = np.eye(4)
        angle = 0.3 * i
        pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
        pose[:3, 3] = rng.uniform(0, 2, 3)
        steps = np.rint(1000 * (1.5 + 0.02 * u + 0.3 * (v > 12))).astype(np.uint16)
        rays = np.stack([(u - 15.5) / 30, (v - 11.5) / 30, np.ones(u.shape)], axis=-1)
        points.append((rays * steps[..., None] / 1000).reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3])
        for kind, image in (("color", np.zeros((24, 32, 3), np.uint8)), ("depth", steps)):
            (tmp_path / "frames" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "frames" / kind / f"{i}.png")
        poses.append(np.full((4, 4), -np.inf) if i == 3 else pose)
    np.savetxt(tmp_path / "frames/K.txt", [[30, 0, 15.5], [0, 30, 11.5], [0, 0, 1]])
    np.savetxt(tmp_path / "frames/poses.txt", np.reshape(poses, (6, 16)))
    io.write(PointCloud(xyz=np.concatenate(points).astype(np.float32)), tmp_path / "scan.ply")
    return tmp_path


def test_info_counts_frames_and_names_what_was_skipped(folder, capsys):
    assert main(["frames", "info", str(folder / "frames")]) == 0
    text = capsys.readouterr().out
    assert "5 frames (folder), skipped 1 (pose not finite (tracking lost))" in text
    assert "32x24, fx 30.00" in text
    assert "skipped 3: pose not finite" in text
    assert main(["frames", "info", str(folder / "frames"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == {"3": "pose not finite (tracking lost)"}


def test_check_names_the_options_that_make_the_frames_fit(folder, capsys):
    arguments = ["frames", "check", str(folder / "frames"), str(folder / "scan.ply"), "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["advice"] == "poses and depth fit the scan as they are read"
    poses = np.loadtxt(folder / "frames/poses.txt").reshape(6, 4, 4)
    poses[[0, 1, 2, 4, 5]] = np.linalg.inv(poses[[0, 1, 2, 4, 5]])
    np.savetxt(folder / "frames/poses.txt", poses.reshape(6, 16))
    assert main(arguments[:-1]) == 0
    assert "-> add --convention w2c" in capsys.readouterr().out


def test_check_fails_when_nothing_fits_and_asks_for_a_scan(folder, capsys):
    io.write(PointCloud(xyz=np.random.default_rng(1).uniform(50, 60, (500, 3)).astype(np.float32)), folder / "other.ply")
    assert main(["frames", "check", str(folder / "frames"), str(folder / "other.ply")]) == 3
    assert "frames and scan do not fit" in capsys.readouterr().err
    assert main(["frames", "check", str(folder / "frames")]) == 4
    assert "a check needs a scan" in capsys.readouterr().err
