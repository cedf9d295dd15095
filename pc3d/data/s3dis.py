"""S3DIS as it is downloaded: a text file of points per room, and one per annotated object beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pc3d.data.preparation import Source, WholeScenes
from pc3d.data.s3dis_text import read_points
from pc3d.errors import ConfigError, DataError, FileError, FormatError, explain
from pc3d.structures import PointCloud
from pc3d.superpoints import DEFAULT, SuperpointSettings
from pc3d.superpoints import cloud as cloud_superpoints

#: The 13 classes, all of them instances, in the order of PointNet, Mask3D and ISBNet. SoftGroup's checkpoints use
#: chair, table, bookcase, sofa at places 7 to 10 instead: mixing the two swaps names.
CLASSES = ("ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board",
           "clutter")
AREAS = tuple(f"Area_{k}" for k in range(1, 7))
SYNONYMS = {"stairs": "clutter"}  # annotated in a few rooms, no class of the benchmark
MAX_DISTANCE = 0.01  # metres from a point of the room to the annotated point it takes its label from
MAX_MISSING = 0.1    # share of a room's points that may be in no annotation, or of annotated points that may not be in the room


@dataclass(frozen=True)
class S3DIS(WholeScenes):
    """Reads ``Area_k/room/room.txt`` and ``Area_k/room/Annotations/class_i.txt`` of either release.

    A scene is a room, or with ``unit`` area all rooms of an area together.
    """

    raw: Path
    splits: tuple[str, ...]
    unit: str = "room"
    superpoints: SuperpointSettings = DEFAULT

    dataset: ClassVar[str] = "s3dis"
    classes: ClassVar[tuple[str, ...]] = CLASSES

    @classmethod
    def open(cls, raw: Path, splits: Sequence[str] = (), unit: str = "room") -> S3DIS:
        """Find the areas below a folder. Raises FileError when there are none, ConfigError for an unknown one."""
        unknown = [split for split in splits if split not in AREAS]
        if unknown:
            raise ConfigError(explain("unknown area", got=unknown[0], expected=f"one of {', '.join(AREAS)}"))
        releases = [place for place in [raw, *sorted(raw.glob("Stanford3dDataset*"))] if _areas(place)]
        if len(releases) != 1:
            names = ", ".join(release.name for release in releases)
            raise FileError(explain("there is more than one release" if releases else "there are no areas", where=raw,
                                    got=names or None, expected="a folder with Area_1 to Area_6",
                                    do="Give the folder of one release." if releases else None))
        return cls(releases[0], tuple(splits) or tuple(_areas(releases[0])), unit)

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides the result besides the files."""
        return {"unit": self.unit, "release": "aligned" if "aligned" in self.raw.name.lower() else "v1.2",
                "max_label_distance": MAX_DISTANCE, "synonyms": SYNONYMS,
                "graph": {"normal_neighbors": cloud_superpoints.NUM_NEIGHBORS, "edge_neighbors": cloud_superpoints.NUM_EDGES,
                          "color_weight": cloud_superpoints.COLOR_WEIGHT}}

    @property
    def remarks(self) -> list[str]:  # type: ignore[override]
        """Areas that are not there, where all were wanted."""
        there = _areas(self.raw)
        missing = [area for area in AREAS if area not in there]
        return [f"{self.raw} has no {', '.join(missing)}"] if missing and list(self.splits) == there else []

    def sources(self) -> list[Source]:
        """The rooms of the wanted areas; of an area without rooms one that cannot be read."""
        found = []
        for area in self.splits:
            rooms = sorted(room for room in (self.raw / area).glob("[!.]*") if room.is_dir())
            if not rooms:
                found.append(Source(area, "*", (self.raw / area / "*" / "*.txt",)))
                continue
            files = [(_room_file(room), *_annotation_files(room)) for room in rooms]
            if self.unit == "area":
                found.append(Source(area, area, tuple(path for room in files for path in room)))
            else:
                found += [Source(area, room.name, paths) for room, paths in zip(rooms, files)]
        return found

    def read(self, source: Source) -> tuple[PointCloud, list[str]]:
        """The points of the scene's rooms in the order of their files, with class and instance of each, and notes."""
        columns: list[list[NDArray[Any]]] = []
        notes: list[str] = []
        num_objects = 0
        for room_file, *object_files in _rooms_of(source.files):
            xyz, rgb, labels, instances, more = read_room(room_file, object_files)
            columns.append([xyz, rgb, labels, np.where(instances >= 0, instances + num_objects, -1)])
            num_objects += len(object_files)
            notes += more
        xyz, rgb, labels, instances = (np.concatenate(parts) for parts in zip(*columns))
        return PointCloud.from_world(xyz, rgb=rgb, labels=labels, instances=instances), notes


def _rooms_of(files: Sequence[Path]) -> list[list[Path]]:
    """Files of a scene room by room: each begins with the one that does not lie in ``Annotations``."""
    rooms: list[list[Path]] = []
    for path in files:
        if path.parent.name != "Annotations":
            rooms.append([])
        rooms[-1].append(path)
    return rooms


def read_room(room_file: Path, object_files: Sequence[Path]) -> tuple[Any, ...]:
    """Points (N, 3), colours, labels and instances (the place of their file; -1: none) of a room, and a list of notes.

    Raises FileError or FormatError for a file, DataError where room and annotations are not of one size.
    """
    rows, notes = read_points(room_file)
    if not object_files:
        raise FileError(explain("the room is not annotated", where=room_file.parent / "Annotations",
                                expected="files such as chair_1.txt"))
    annotated, labels, instances, more = read_objects(object_files)
    if len(annotated) > (1 + MAX_MISSING) * len(rows):
        raise DataError(explain("the room has fewer points than its annotations", where=room_file, got=len(rows),
                                expected=f"{len(annotated)}, as in Annotations/", do="It is cut off, or of another room."))
    distance, nearest = cKDTree(annotated).query(rows[:, :3], distance_upper_bound=MAX_DISTANCE)
    found = np.isfinite(distance)
    nearest = np.where(found, nearest, 0)
    missing = int((~found).sum())
    if missing > MAX_MISSING * len(rows):
        raise DataError(explain("the annotations lack points of the room", where=room_file.parent / "Annotations",
                                got=f"{missing} of {len(rows)} are in none", do="A file of it is missing or cut off."))
    if missing:
        more.append(f"{room_file.parent.name}: {missing} points are in no annotation and stay without a label")
    return (rows[:, :3], np.rint(rows[:, 3:]).astype(np.uint8), np.where(found, labels[nearest], -1),
            np.where(found, instances[nearest], -1), notes + more)


def _areas(folder: Path) -> list[str]:
    return [area for area in AREAS if (folder / area).is_dir()]


def _room_file(room: Path) -> Path:
    """``room/room.txt``, or the only text file: Area_6/copyRoom_1 holds copy_Room_1.txt."""
    path = room / f"{room.name}.txt"
    others = sorted(room.glob("[!.]*.txt"))
    return others[0] if not path.exists() and len(others) == 1 else path


def _annotation_files(room: Path) -> list[Path]:
    """Text files of the objects by class and number; Finder's and editors' leftovers are no objects."""
    files = (room / "Annotations").glob("[!.]*.txt")
    return sorted(files, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)])


def read_objects(files: Sequence[Path]) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Points (M, 3) of all objects with class and instance (the place of their file), and notes. Raises DataError for a name
    that is no class."""
    points, labels, notes = [], [], []
    for path in files:
        rows, more = read_points(path)
        name = path.stem.rpartition("_")[0] or path.stem
        name = SYNONYMS.get(name, name)
        if name not in CLASSES:
            raise DataError(explain("this is no class of S3DIS", where=path, got=repr(name),
                                    expected=f"one of {', '.join(CLASSES)}"))
        points.append(rows[:, :3])
        labels.append(CLASSES.index(name))
        notes += more
    if not points:
        raise FormatError(explain("there are no objects"))
    counts = [len(rows) for rows in points]
    return np.concatenate(points), np.repeat(labels, counts), np.repeat(np.arange(len(files)), counts), notes
