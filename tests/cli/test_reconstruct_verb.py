from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pc3d import io
from pc3d.cli import main


def write_frames(folder: Path) -> None:
    """Three views of a wall 1.5 m ahead, from places 5 cm apart."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name in ("color", "depth"):
        (folder / name).mkdir(parents=True)
    poses = []
    for index in range(3):
        pose = np.eye(4)
        pose[0, 3] = 0.05 * index
        poses.append(pose.reshape(-1))
        image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / "color" / f"{index:03d}.png")
        image.fromarray(np.full((48, 64), 1500, dtype=np.uint16)).save(folder / "depth" / f"{index:03d}.png")
    np.savetxt(folder / "K.txt", [[60, 0, 32], [0, 60, 24], [0, 0, 1]])
    np.savetxt(folder / "poses.txt", poses)


def test_frames_become_a_mesh_on_disk(open3d, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_frames(tmp_path / "frames")
    mesh_path = tmp_path / "mesh.ply"
    assert main(["reconstruct", str(tmp_path / "frames"), "-o", str(mesh_path), "--voxel-size", "0.05", "--no-align"]) == 0
    shown = capsys.readouterr()
    assert "triangles; next: pc3d segment" in shown.out
    assert "fusing frames: 3/3" in shown.err
    mesh = io.read(mesh_path)
    assert mesh.faces is not None
    assert np.abs(mesh.xyz[:, 2] - 1.5).max() < 0.05


def test_a_folder_without_frames_ends_with_3(open3d, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reconstruct", str(tmp_path), "-o", str(tmp_path / "mesh.ply")]) == 3
    assert str(tmp_path) in capsys.readouterr().err
    write_frames(tmp_path / "frames")
    assert main(["reconstruct", str(tmp_path / "frames"), "-o", str(tmp_path / "mesh.ply"), "--layout", "tum"]) == 3
    assert not (tmp_path / "mesh.ply").exists()
