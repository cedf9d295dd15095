"""ScanNet++, v1 and v2, as it is downloaded: aligned meshes, their segments, and objects that may share segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pc3d.data.chunks import cut_chunks
from pc3d.data.lists import DATASETS, find_first, read_names, read_numbers, read_split, read_table
from pc3d.data.preparation import Source
from pc3d.data.scannet_groups import Group, check_names, read_groups, read_segments, rows_of_groups
from pc3d.errors import ConfigError, DataError, FileError, explain
from pc3d.io import read
from pc3d.structures import PointCloud
from pc3d.superpoints import SuperpointSettings

#: Split -> its list in the download.
SPLITS = {"train": "nvs_sem_train.txt", "val": "nvs_sem_val.txt", "test": "sem_test.txt"}
MEMBERS = ("mesh_aligned_0.05.ply", "segments.json", "segments_anno.json")
#: Vertices that the benchmark's evaluation leaves out (people, screens): their numbers, one a line; mostly an empty file.
IGNORED = "mesh_aligned_0.05_mask.txt"
#: Scenes in the list of ``train`` -> the release; of v1 two are about.
RELEASES = {230: "v1", 360: "v1", 856: "v2"}
MAX_LABELS = 3          # that the benchmark keeps of a vertex
CHUNK, STRIDE = 6.0, 3.0   # metres: a training sample and the step to the next
MAX_UNKNOWN = 0.5       # share of the objects of a scene whose labels the label map may not know, such as REMOVE
GRID = 0.001            # metres: a training sample has one vertex in a cell
MIN_POINTS = 10_000     # of a training sample
#: Coarser than ScanNet's: at its settings these larger and finer meshes fall into far too many.
SUPERPOINTS = SuperpointSettings(k_threshold=0.2, min_size=100, exact=True)


@dataclass(frozen=True)
class ScanNetPP:
    """Reads ``raw/data/<scene>/scans`` with the lists in ``raw/splits`` and ``raw/metadata/semantic_benchmark``.

    Labels are the instance classes of the benchmark (84), -1 for its other classes and for everything else. Scenes of
    ``train`` become chunks, ``<scene>_<number>``, unless ``unit`` is scene; others stay whole, their rows the vertices.
    """

    raw: Path
    lists: dict[str, tuple[str, ...]]       # split -> scenes
    classes: tuple[str, ...]                # instance classes
    semantic: tuple[str, ...]               # all classes of the benchmark
    label_map: dict[str, str] = field(repr=False)
    unit: str = "chunk"
    superpoints: SuperpointSettings = SUPERPOINTS

    dataset: ClassVar[str] = "scannetpp"

    @classmethod
    def open(cls, raw: Path, splits: Sequence[str] = (), unit: str = "chunk") -> ScanNetPP:
        """Read the lists of a download. Raises FileError, FormatError or ConfigError."""
        unknown = [split for split in splits if split not in SPLITS]
        if unknown:
            raise ConfigError(explain("unknown split", got=unknown[0], expected=f"one of {', '.join(SPLITS)}"))
        if not (raw / "splits").is_dir():
            raise FileError(explain("there are no split lists", where=raw / "splits",
                                    expected="a ScanNet++ download with data/, splits/ and metadata/"))
        lists = {split: tuple(read_split(raw / "splits" / SPLITS[split])) for split in splits or SPLITS
                 if splits or (raw / "splits" / SPLITS[split]).is_file()}
        instance, semantic = read_classes(raw)
        return cls(raw, lists, instance, semantic, read_label_map(raw), unit)

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides the result besides the files."""
        chunks = {"size": CHUNK, "stride": STRIDE, "grid": GRID, "min_points": MIN_POINTS}
        return {"release": release_of(self.raw), "unit": self.unit, **({"chunks": chunks} if self.unit == "chunk" else {}),
                "labels": f"map_benchmark.csv to {len(self.semantic)} classes, {len(self.classes)} of them instances; "
                          f"at most {MAX_LABELS} a vertex, the smallest object first"}

    @property
    def remarks(self) -> list[str]:
        """Scenes on disk that no list names, as where lists of v1 lie beside scenes of v2."""
        listed = {name for file in SPLITS.values() if (self.raw / "splits" / file).is_file()
                  for name in read_split(self.raw / "splits" / file)}
        there = {path.parts[-3] for path in self.raw.glob(f"data/*/scans/{MEMBERS[0]}")}
        lost = sorted(there - listed)
        return [f"{len(lost)} scenes are in no list and were passed over ({', '.join(lost[:3])}{' ...' if lost[3:] else ''}): "
                f"are the lists in {self.raw / 'splits'} of an earlier release?"] if lost else []

    def sources(self) -> list[Source]:
        """The scenes of the wanted splits. Raises FileError when none of them is there."""
        found = [self._source(split, name) for split, names in self.lists.items() for name in names]
        if not any(source.files[0].parent.is_dir() for source in found):
            raise FileError(explain("no scene of the split lists is here", where=self.raw,
                                    expected="data/<scene>/scans/mesh_aligned_0.05.ply and so on"))
        return found

    def _source(self, split: str, name: str) -> Source:
        folder = self._folder(name)
        if split == "test":
            return Source(split, name, (folder / MEMBERS[0],))
        members = [*MEMBERS, *([IGNORED] if (folder / IGNORED).is_file() else [])]
        table = find_label_map(self.raw)
        return Source(split, name, tuple(folder / member for member in members), (table,) if table else ())

    def _folder(self, name: str) -> Path:
        return next((place for place in (self.raw / "data" / name, self.raw / name) if place.is_dir()),
                    self.raw / "data" / name) / "scans"

    def read(self, source: Source) -> tuple[PointCloud, list[str]]:
        """The mesh of a scene with the labels and instances of its vertices, the smallest object's first, and notes."""
        mesh = read(source.files[0]).replace(labels=None, instances=None, superpoints=None, normals=None, attributes={})
        if len(source.files) == 1:
            return mesh, []
        _, segments_path, groups_path, *ignored_path = source.files
        segments = read_segments(segments_path, len(mesh))
        groups, notes = read_groups(groups_path)
        notes += check_names(groups, self.label_map, where=groups_path, allowed=MAX_UNKNOWN)
        names = [self.label_map.get(group.label) for group in groups]
        known = [place for place, name in enumerate(names) if name in self.semantic]
        objects, odd = objects_of_vertices(segments, [groups[place] for place in known], where=groups_path)
        group = np.array([*known, -1])[objects]
        place = {name: label for label, name in enumerate(self.classes)}
        labels = np.array([*(place.get(name or "", -1) for name in names), -1])[group]
        instances = np.where(labels >= 0, group, -1)
        more = {"more_labels": labels[:, 1:], "more_instances": instances[:, 1:]} if (group[:, 1] >= 0).any() else {}
        if ignored_path:
            more |= ignored_vertices(ignored_path[0], len(mesh))
        else:
            odd.append(f"there is no {IGNORED}: evaluation counts every vertex")
        return mesh.replace(labels=labels[:, 0], instances=instances[:, 0], attributes=more), notes + odd

    def parts(self, source: Source, cloud: PointCloud) -> list[tuple[str, PointCloud]]:
        """Chunks of a training scene, any other as it is."""
        if source.split != "train" or self.unit != "chunk":
            return [(source.name, cloud)]
        chunks = cut_chunks(cloud.xyz, size=CHUNK, stride=STRIDE, grid=GRID, min_points=MIN_POINTS)
        return [(f"{source.name}_{number}", cloud[rows]) for number, rows in enumerate(chunks)]


def objects_of_vertices(segments: NDArray[np.int64], groups: Sequence[Group], *,
                        where: object) -> tuple[NDArray[np.int64], list[str]]:
    """Places (N, MAX_LABELS) of the groups that each vertex belongs to, the smallest first, then -1; and notes.

    A vertex takes the first MAX_LABELS groups in the order of the file; the size of a group counts vertices that took it.
    """
    ids, segment_of_vertex, sizes = np.unique(segments, return_inverse=True, return_counts=True)
    objects = np.full((len(ids), MAX_LABELS), -1, dtype=np.int64)
    taken = np.zeros(len(ids), dtype=np.int64)
    num_vertices = np.full(len(groups) + 1, np.iinfo(np.int64).max)  # of no group: more than any has
    rows_of_group, notes = rows_of_groups(ids, groups, where=where)
    for index, every_row in enumerate(rows_of_group):
        rows = every_row[taken[every_row] < MAX_LABELS]
        objects[rows, taken[rows]] = index
        taken[rows] += 1
        num_vertices[index] = sizes[rows].sum()
    order = num_vertices[objects].argsort(axis=1, kind="stable")
    return np.take_along_axis(objects, order, axis=1)[segment_of_vertex.reshape(-1)], notes


def ignored_vertices(path: Path, num_points: int) -> dict[str, NDArray[np.bool_]]:
    """The column ``ignored`` (N,), or none where the list is empty. Raises FormatError or DataError."""
    rows = read_numbers(path)
    if not len(rows):
        return {}
    if rows.min() < 0 or rows.max() >= num_points:
        line = int(np.flatnonzero((rows < 0) | (rows >= num_points))[0])
        raise DataError(explain("the mesh has no such vertex", where=f"{path}:{line + 1}", got=int(rows[line]),
                                expected=f"below {num_points}", do="The list or the mesh is of another release."))
    ignored = np.zeros(num_points, dtype=bool)
    ignored[rows] = True
    return {"ignored": ignored}


def release_of(raw: Path) -> str:
    """``v1``, ``v2`` or ``unknown``, by how many scenes the download's list of training scenes names."""
    path = raw / "splits" / SPLITS["train"]
    return RELEASES.get(len(read_split(path)), "unknown") if path.is_file() else "unknown"


def read_classes(raw: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Instance classes, and all classes, of the benchmark: the download's lists, else those that come with pc3d."""
    places = [raw / "metadata" / "semantic_benchmark", raw / "metadata"]
    lists = [find_first(places, name) for name in ("top100_instance.txt", "top100.txt")]
    if None not in lists:
        instance, semantic = (tuple(read_names(path)) for path in lists if path)
        return tuple(name for name in semantic if name in instance), semantic
    table = read_table(DATASETS / "scannetpp" / "classes.tsv", ("label", "name"))
    return tuple(row["name"] for row in table if row["label"] != "-1"), tuple(row["name"] for row in table)


def find_label_map(raw: Path) -> Path | None:
    """``map_benchmark.csv`` of a download."""
    return find_first([raw / "metadata" / "semantic_benchmark", raw / "metadata"], "map_benchmark.csv")


def read_label_map(raw: Path) -> dict[str, str]:
    """Annotated label -> class of the benchmark, "" for none: ``map_benchmark.csv``. Raises FileError or FormatError."""
    path = find_label_map(raw)
    if path is None:
        raise FileError(explain("there is no label map", where=raw / "metadata" / "semantic_benchmark" / "map_benchmark.csv",
                                do="It is part of the download: metadata/ belongs beside data/."))
    table = read_table(path, ("class", "semantic_map_to"), separator=",")
    return {row["class"]: {"": row["class"], "None": ""}.get(row["semantic_map_to"], row["semantic_map_to"]) for row in table}
