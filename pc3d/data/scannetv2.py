"""ScanNetV2 as it is downloaded: meshes, NYU40 labels, segments and the groups of segments that make instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pc3d.data.lists import DATASETS, find_first, read_split, read_table
from pc3d.data.preparation import Source, WholeScenes
from pc3d.data.scannet_groups import Group, check_count, check_names, group_of_vertices, read_groups, read_segments
from pc3d.errors import ConfigError, FileError, FormatError, explain
from pc3d.io import read
from pc3d.io.ply import read_ply_columns
from pc3d.structures import PointCloud
from pc3d.superpoints import SuperpointSettings

#: The 18 instance classes in the order of the benchmark -> NYU40 id. A label is a position in this table.
NYU40_IDS = {
    "cabinet": 3, "bed": 4, "chair": 5, "sofa": 6, "table": 7, "door": 8, "window": 9, "bookshelf": 10, "picture": 11,
    "counter": 12, "desk": 14, "curtain": 16, "refrigerator": 24, "shower curtain": 28, "toilet": 33, "sink": 34,
    "bathtub": 36, "otherfurniture": 39,
}
WALL, FLOOR, NUM_NYU40 = 1, 2, 40
SPLITS = ("train", "val", "test")
LABEL_MAP = "scannetv2-labels.combined.tsv"
LISTS = DATASETS / "scannetv2"
SCANNET = SuperpointSettings(exact=True)  # those of ScanNet's own program


@dataclass(frozen=True)
class ScanNetV2(WholeScenes):
    """Reads ``raw/scans`` and ``raw/scans_test``; labels are 0..17 (NYU40_IDS), -1 for walls, floor, stuff and unknown.

    Without ``splits``, every split that has a scene in ``raw``. ``lists`` is the folder of scannetv2_<split>.txt.
    """

    raw: Path
    splits: tuple[str, ...] = ()
    lists: Path | None = None
    label_map: dict[str, int] = field(default_factory=dict, repr=False)
    superpoints: SuperpointSettings = SCANNET

    dataset: ClassVar[str] = "scannetv2"
    classes: ClassVar[tuple[str, ...]] = tuple(NYU40_IDS)
    id_column: ClassVar[str] = "nyu40id"  # of the label map

    @classmethod
    def open(cls, raw: Path, splits: Sequence[str] = (), lists: Path | None = None) -> Any:
        """Check the folder and read its label map. Raises FileError, FormatError or ConfigError."""
        unknown = [split for split in splits if split not in SPLITS]
        if unknown:
            raise ConfigError(explain("unknown split", got=unknown[0], expected=f"one of {', '.join(SPLITS)}"))
        if not raw.is_dir():
            raise FileError(explain("there is no such folder", where=raw, expected="a ScanNet download with scans/ in it"))
        needs_map = not splits or set(splits) != {"test"}
        return cls(raw, tuple(splits), lists, read_label_map(raw, cls.id_column) if needs_map else {})

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides the result besides the files."""
        return {"labels": "nyu40 to 18 classes", "instances": "aggregation groups"}

    def sources(self) -> list[Source]:
        """The scenes of the wanted splits. Raises FileError when a list is missing, or no scene at all is there."""
        found: list[Source] = []
        for split in self.splits or SPLITS:
            names = read_split(self._list(split))
            if self.splits or any(self._folder(name).is_dir() for name in names):
                found += [self._source(split, name) for name in names]
        if not found:
            raise FileError(explain("no scene of the split lists is here", where=self.raw,
                                    expected="scans/scene0000_00/scene0000_00_vh_clean_2.ply and so on"))
        return found

    def _list(self, split: str) -> Path:
        places = [self.lists] if self.lists else [self.raw, self.raw / "meta_data", LISTS]
        path = find_first(places, f"scannetv2_{split}.txt")
        if path is None:
            raise FileError(explain("there is no split list", where=places[0] / f"scannetv2_{split}.txt",
                                    do="Give the folder of ScanNet's Tasks/Benchmark/scannetv2_*.txt with --lists."))
        return path

    def _folder(self, name: str) -> Path:
        places = [self.raw / "scans" / name, self.raw / "scans_test" / name, self.raw / name]
        return next((place for place in places if place.is_dir()), places[0])

    def _source(self, split: str, name: str) -> Source:
        members = ["_vh_clean_2.ply", *(self.annotation() if split != "test" else ())]
        tables = filter(None, [find_label_map(self.raw)] if split != "test" else [])
        return Source(split, name, tuple(self._folder(name) / f"{name}{member}" for member in members), tuple(tables))

    @staticmethod
    def annotation() -> tuple[str, ...]:
        """What the names of the annotation files of a scene end with."""
        return "_vh_clean_2.labels.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json"

    def read(self, source: Source) -> tuple[PointCloud, list[str]]:
        """The mesh of a scene with labels and instances; a test scene has neither, whatever lies beside it."""
        mesh = read(source.files[0]).replace(labels=None, instances=None, superpoints=None, normals=None)
        return (mesh, []) if len(source.files) == 1 else self.annotate(mesh, source)

    def annotate(self, mesh: PointCloud, source: Source) -> tuple[PointCloud, list[str]]:
        """The mesh with the labels of its vertices and the instances of its groups, and notes."""
        _, labels_path, segments_path, groups_path = source.files
        nyu, labels, notes = read_labels(labels_path, len(mesh))
        segments = read_segments(segments_path, len(mesh))
        groups, more = read_groups(groups_path)
        check_names(groups, self.label_map, where=groups_path)
        objects = [group for group in groups if not is_surface(group.label, self.label_map)]
        instances, odd = group_of_vertices(segments, objects, where=groups_path)
        notes += [*more, *odd, *_unlike_labels(instances, nyu, objects, self.label_map)]
        return mesh.replace(labels=labels, instances=np.where(labels >= 0, instances, -1)), notes


def find_label_map(raw: Path) -> Path | None:
    """The table of labels in a download."""
    return find_first([raw, raw / "meta_data"], LABEL_MAP)


def read_label_map(raw: Path, column: str) -> dict[str, int]:
    """Raw category -> an id (0: none) of the table that comes with the download. Raises FileError or FormatError."""
    path = find_label_map(raw)
    if path is None:
        raise FileError(explain("there is no label map", where=raw / LABEL_MAP,
                                do="It comes with ScanNet's download script, beside scans/."))
    mapping: dict[str, int] = {}
    for row, entry in enumerate(read_table(path, ("raw_category", column)), 2):
        try:
            mapping.setdefault(entry["raw_category"], int(entry[column] or 0))
        except ValueError as error:
            raise FormatError(explain("the label map has a bad number", where=f"{path}:{row}", got=error)) from error
    if not mapping:
        raise FormatError(explain("the label map has no rows", where=path, do="It is cut off: copy it again."))
    return mapping


def read_labels(path: Path, num_points: int) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """NYU40 id of every vertex, its class (-1: none of the 18), and notes. Raises FormatError or DataError."""
    nyu = read_ply_columns(path).get("label")
    if nyu is None or nyu.dtype.kind not in "iu":
        raise FormatError(explain("the file has no vertex column 'label' of whole numbers", where=path))
    nyu = nyu.astype(np.int64)
    check_count(path, len(nyu), num_points)
    table = np.full(NUM_NYU40 + 1, -1, dtype=np.int64)
    table[list(NYU40_IDS.values())] = np.arange(len(NYU40_IDS))
    known = (nyu >= 0) & (nyu <= NUM_NYU40)
    labels = np.where(known, table[np.where(known, nyu, 0)], -1)
    odd = np.unique(nyu[~known]).tolist()  # the release has some, 50 and 149 among them
    return nyu, labels, [f"{int((~known).sum())} vertices have labels that NYU40 does not know: {odd[:8]}"] if odd else []


def is_surface(label: str, label_map: dict[str, int]) -> bool:
    """Whether a raw label means wall or floor, which are no objects."""
    return label in ("wall", "floor") or label_map.get(label) in (WALL, FLOOR)


def _unlike_labels(instances: NDArray[np.int64], nyu: NDArray[np.int64], objects: Sequence[Group],
                   label_map: dict[str, int]) -> list[str]:
    """Note vertices whose own label is not their group's: the vertex labels count, as in the benchmark."""
    expected = np.array([label_map.get(group.label, -1) for group in objects] + [-1])
    unlike = (instances >= 0) & (expected[instances] >= 0) & (expected[instances] != nyu)
    return [f"{int(unlike.sum())} vertices have another label than their group; theirs counts"] if unlike.any() else []
