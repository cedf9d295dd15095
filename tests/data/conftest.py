"""A tiny furnished room, and raw data sets made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pc3d.structures import PointCloud
from pc3d.superpoints import compute_superpoints
from pc3d.synth import export_s3dis, export_scannet, export_scannetpp
from pc3d.synth.export_scannet import finish_scannet
from pc3d.synth.export_scannetpp import finish_scannetpp

SIDE = 6


def sheet(corner, along, across, side):
    """Vertices and faces of a sheet of side x side vertices."""
    steps = np.linspace(0, 1, side)
    a, b = np.meshgrid(steps, steps, indexing="ij")
    xyz = np.array(corner) + a.reshape(-1, 1) * np.array(along) + b.reshape(-1, 1) * np.array(across)
    cell = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).reshape(-1, 1)
    faces = np.concatenate([cell + [0, side, 1], cell + [1, side, side + 1]])
    return xyz, faces


def tiny_room(side: int = SIDE) -> PointCloud:
    """Floor, wall, ceiling, a desk, two chairs and a ball of clutter, each a sheet of its own."""
    parts = [  # corner, along, across, label, instance
        ((0, 0, 0), (3, 0, 0), (0, 3, 0), -1, -1),          # floor
        ((0, 0, 0), (0, 0, 2), (3, 0, 0), -1, -1),          # wall
        ((0, 0, 2), (0, 3, 0), (3, 0, 0), -1, -1),          # ceiling
        ((1, 1, 0.7), (0.8, 0, 0), (0, 0.5, 0), 10, 0),     # desk
        ((0.2, 1, 0.4), (0.4, 0, 0), (0, 0.4, 0), 2, 1),    # chair
        ((0.2, 2, 0.4), (0.4, 0, 0), (0, 0.4, 0), 2, 2),    # chair
        ((2.2, 2, 1.0), (0.3, 0, 0.2), (0, 0.3, 0.2), -1, -1),
    ]
    sheets = [sheet(*part[:3], side) for part in parts]
    faces = np.concatenate([faces + i * side**2 for i, (_, faces) in enumerate(sheets)])
    xyz = np.concatenate([xyz for xyz, _ in sheets])
    rng = np.random.default_rng(0)
    cloud = PointCloud(xyz=np.round(xyz, 3), faces=faces, rgb=rng.integers(0, 256, (len(xyz), 3)),
                       labels=np.repeat([part[3] for part in parts], side**2),
                       instances=np.repeat([part[4] for part in parts], side**2))
    return compute_superpoints(cloud)


@pytest.fixture
def room() -> PointCloud:
    return tiny_room()


@pytest.fixture
def scannet_raw(tmp_path: Path, room: PointCloud) -> Path:
    """A ScanNet download of two training scenes, one for validation and a test scene."""
    raw = tmp_path / "raw"
    for name in ("scene0000_00", "scene0001_00", "scene0000_01"):
        export_scannet(room, raw / "scans" / name)
    export_scannet(room, raw / "scans_test" / "scene0000_02", annotated=False)
    finish_scannet(raw, "train", ["scene0000_00", "scene0001_00"])
    finish_scannet(raw, "val", ["scene0000_01"])
    finish_scannet(raw, "test", ["scene0000_02"])
    return raw


@pytest.fixture
def s3dis_raw(tmp_path: Path, room: PointCloud) -> Path:
    """An S3DIS download of three rooms in two areas."""
    raw = tmp_path / "Stanford3dDataset_v1.2_Aligned_Version"
    for room_name in ("Area_1/office_1", "Area_1/office_2", "Area_5/hallway_6"):
        export_s3dis(room, raw / room_name)
    return raw


@pytest.fixture
def scannetpp_raw(tmp_path: Path, room: PointCloud) -> Path:
    """A ScanNet++ download of a scene for each split; every sheet is two segments."""
    raw = tmp_path / "scannetpp"
    halves = 2 * room.superpoints + np.arange(len(room)) % SIDE**2 // (SIDE**2 // 2)
    room = room.replace(superpoints=np.unique(halves, return_inverse=True)[1].reshape(-1))
    for split, name in (("train", "a000000000"), ("val", "b000000000"), ("test", "c000000000")):
        export_scannetpp(room, raw / "data" / name, annotated=split != "test")
        finish_scannetpp(raw, split, [name])
    return raw
