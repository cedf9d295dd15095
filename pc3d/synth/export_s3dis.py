"""A synthetic room as a room of S3DIS: text files of all its points and of each object."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import ConfigError, explain
from pc3d.io.files import atomic_file
from pc3d.structures import PointCloud
from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.raw import CEILING, FLOOR, NOTHING, WALL, appearing_folder, surface_kinds

#: What S3DIS calls our classes; everything else is clutter.
NAMES = {"chair": "chair", "sofa": "sofa", "table": "table", "desk": "table", "door": "door", "window": "window",
         "bookshelf": "bookcase"}
SURFACES = {CEILING: "ceiling", FLOOR: "floor", WALL: "wall", NOTHING: "clutter"}
#: Split -> the areas it is spread over: Area 5 is for testing.
AREAS = {"train": (1, 2, 3, 4, 6), "val": (5,)}
ROOMS = {"living": "lounge", "bedroom": "office", "kitchen": "pantry", "bathroom": "WC", "office": "office",
         "meeting": "conferenceRoom", "corridor": "hallway", "suite": "lounge"}


def room_folder(root: Path, seed: int, split: str, kind: str) -> Path:
    """Where the room of a seed lies. Raises ConfigError for a split that S3DIS has no areas for."""
    if split not in AREAS:
        raise ConfigError(explain("S3DIS has no such split", got=split, expected=f"one of {', '.join(AREAS)}"))
    areas = AREAS[split]
    return root / f"Area_{areas[seed % len(areas)]}" / f"{ROOMS.get(kind, kind)}_{seed + 1}"


def export_s3dis(cloud: PointCloud, folder: Path) -> None:
    """Write a cloud with labels, instances and normals as the room that ``folder`` is named after; millimetres are kept.

    Every point belongs to an object: walls, floor, ceiling and the clutter between are one each. Raises DataError.
    """
    rows = format_points(cloud)
    with appearing_folder(folder) as target:
        (target / "Annotations").mkdir()
        _write(target / f"{folder.name}.txt", rows)
        numbers: Counter[str] = Counter()
        for name, members in objects_of(cloud):
            numbers[name] += 1
            _write(target / "Annotations" / f"{name}_{numbers[name]}.txt", [rows[i] for i in members])


def objects_of(cloud: PointCloud) -> list[tuple[str, NDArray[np.int64]]]:
    """(S3DIS class, rows) of every object: instances in the order of their ids, then surfaces. Raises DataError."""
    kinds = surface_kinds(cloud)
    assert cloud.labels is not None
    assert cloud.instances is not None
    inside = (cloud.instances >= 0) & (cloud.labels >= 0)
    kinds[~inside & (cloud.labels >= 0)] = NOTHING
    found = []
    for instance in np.unique(cloud.instances[inside]):
        rows = np.flatnonzero(inside & (cloud.instances == instance))
        found.append((NAMES.get(SCANNET_CLASSES[cloud.labels[rows[0]]], "clutter"), rows))
    surfaces = [(name, np.flatnonzero(~inside & (kinds == kind))) for kind, name in SURFACES.items()]
    return found + [(name, rows) for name, rows in surfaces if len(rows)]


def format_points(cloud: PointCloud) -> list[str]:
    """Lines ``x y z r g b`` with three decimals, as S3DIS writes them; grey where there is no colour."""
    rgb = np.full((len(cloud), 3), 128) if cloud.rgb is None else cloud.rgb
    return ["%.3f %.3f %.3f %d %d %d\n" % (*xyz, *color)  # noqa: UP031  # a tenth of the time of an f-string with formats
            for xyz, color in zip(cloud.world_xyz.tolist(), rgb.tolist())]


def _write(path: Path, lines: list[str]) -> None:
    with atomic_file(path) as file:
        file.write("".join(lines).encode())
