"""ScanNetV2 as it is downloaded: meshes, NYU40 labels, segments and the groups of segments that make instances."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pc3d.data.preparation import Source
from pc3d.data.prepared import read_json
from pc3d.errors import ConfigError, DataError, FileError, FormatError, explain
from pc3d.io import read
from pc3d.structures import PointCloud

#: The 18 instance classes in the order of the benchmark -> NYU40 id. A label is a position in this table.
NYU40_IDS = {
    "cabinet": 3, "bed": 4, "chair": 5, "sofa": 6, "table": 7, "door": 8, "window": 9, "bookshelf": 10, "picture": 11,
    "counter": 12, "desk": 14, "curtain": 16, "refrigerator": 24, "shower curtain": 28, "toilet": 33, "sink": 34,
    "bathtub": 36, "otherfurniture": 39,
}
WALL, FLOOR, NUM_NYU40 = 1, 2, 40
SPLITS = ("train", "val", "test")
LABEL_MAP = "scannetv2-labels.combined.tsv"
CHECKOUT = Path(__file__).resolve().parents[2] / "datasets" / "scannetv2"  # the lists come with the repository


class Group(NamedTuple):
    """One annotated object: its raw label and the ids of its segments."""

    label: str
    segments: NDArray[np.int64]


@dataclass(frozen=True)
class ScanNetV2:
    """Reads ``raw/scans`` and ``raw/scans_test``; labels are 0..17 (NYU40_IDS), -1 for walls, floor, stuff and unknown.

    Without ``splits``, every split that has a scene in ``raw``. ``lists`` is the folder of scannetv2_<split>.txt.
    """

    raw: Path
    splits: tuple[str, ...] = ()
    lists: Path | None = None
    label_map: dict[str, int] = field(default_factory=dict, repr=False)

    dataset = "scannetv2"
    classes = tuple(NYU40_IDS)

    @classmethod
    def open(cls, raw: Path, splits: Sequence[str] = (), lists: Path | None = None) -> ScanNetV2:
        """Check the folder and read its label map. Raises FileError, FormatError or ConfigError."""
        unknown = [split for split in splits if split not in SPLITS]
        if unknown:
            raise ConfigError(explain("unknown split", got=unknown[0], expected=f"one of {', '.join(SPLITS)}"))
        if not raw.is_dir():
            raise FileError(explain("there is no such folder", where=raw, expected="a ScanNet download with scans/ in it"))
        needs_map = not splits or set(splits) != {"test"}
        return cls(raw, tuple(splits), lists, read_label_map(_find_label_map(raw)) if needs_map else {})

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides the result besides the files."""
        return {"labels": "nyu40 to 18 classes", "instances": "aggregation groups",
                "superpoints": {"method": "mesh", "k_threshold": 0.01, "min_size": 20}}

    def sources(self) -> list[Source]:
        """The scenes of the wanted splits. Raises FileError when a list is missing, or no scene at all is there."""
        found: list[Source] = []
        for split in self.splits or SPLITS:
            names = read_split(self._list_folder(split) / f"scannetv2_{split}.txt")
            if self.splits or any(self._folder(name).is_dir() for name in names):
                found += [self._source(split, name) for name in names]
        if not found:
            raise FileError(explain("no scene of the split lists is here", where=self.raw,
                                    expected="scans/scene0000_00/scene0000_00_vh_clean_2.ply and so on"))
        return found

    def _list_folder(self, split: str) -> Path:
        places = [self.lists] if self.lists else [self.raw, self.raw / "meta_data", CHECKOUT]
        for place in places:
            if (place / f"scannetv2_{split}.txt").is_file():
                return place
        raise FileError(explain("there is no split list", where=places[0] / f"scannetv2_{split}.txt",
                                do="Give the folder of ScanNet's Tasks/Benchmark/scannetv2_*.txt with --lists."))

    def _folder(self, name: str) -> Path:
        places = [self.raw / "scans" / name, self.raw / "scans_test" / name, self.raw / name]
        return next((place for place in places if place.is_dir()), places[0])

    def _source(self, split: str, name: str) -> Source:
        members = [f"{name}_vh_clean_2.ply"]
        if split != "test":
            members += [f"{name}_vh_clean_2.labels.ply", f"{name}_vh_clean_2.0.010000.segs.json", f"{name}.aggregation.json"]
        return Source(split, name, tuple(self._folder(name) / member for member in members))

    def read(self, source: Source) -> tuple[PointCloud, list[str]]:
        """The mesh of a scene with labels and instances; a test scene has neither, whatever lies beside it."""
        mesh = read(source.files[0]).replace(labels=None, instances=None, superpoints=None, normals=None)
        if len(source.files) == 1:
            return mesh, []
        _, labels_path, segments_path, groups_path = source.files
        nyu, labels, notes = read_labels(labels_path, len(mesh))
        segments = read_segments(segments_path, len(mesh))
        groups, more = read_groups(groups_path)
        instances, odd = group_instances(segments, groups, self.label_map, where=groups_path)
        notes += [*more, *odd, *_unlike_labels(instances, nyu, groups, self.label_map)]
        return mesh.replace(labels=labels, instances=np.where(labels >= 0, instances, -1)), notes


def read_split(path: Path) -> list[str]:
    """Scene names of a split list, one a line. Raises FileError, or FormatError for a name that is no plain name."""
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(explain("the split list cannot be read", where=path, got=error)) from error
    for row, name in enumerate(names, 1):
        if not name.replace("_", "").isalnum():
            raise FormatError(explain("this is no name of a scene", where=f"{path}:{row}", got=repr(name[:40])))
    return names


def _find_label_map(raw: Path) -> Path:
    places = [raw / LABEL_MAP, raw / "meta_data" / LABEL_MAP]
    return next((place for place in places if place.is_file()), places[0])


def read_label_map(path: Path) -> dict[str, int]:
    """Raw category -> NYU40 id (0: none), from the table that comes with the download. Raises FileError or FormatError."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise FileError(explain("the label map cannot be read", where=path, got=error.strerror,
                                do="It comes with ScanNet's download script, beside scans/.")) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(explain("the label map is not tab-separated text", where=path, got=str(error))) from error
    mapping = {}
    for row, entry in enumerate(rows, 2):
        try:
            mapping[entry["raw_category"].strip()] = int(entry["nyu40id"] or 0)
        except (KeyError, AttributeError, ValueError) as error:
            raise FormatError(explain("the label map has no such column or a bad number", where=f"{path}:{row}", got=error,
                                      expected="columns raw_category and nyu40id")) from error
    return mapping


def read_labels(path: Path, num_points: int) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """NYU40 id of every vertex, its class (-1: none of the 18), and notes. Raises FormatError or DataError."""
    nyu = read(path).labels
    if nyu is None:
        raise FormatError(explain("the file has no vertex column 'label'", where=path))
    _check_count(path, len(nyu), num_points)
    table = np.full(NUM_NYU40 + 1, -1, dtype=np.int64)
    table[list(NYU40_IDS.values())] = np.arange(len(NYU40_IDS))
    known = (nyu >= 0) & (nyu <= NUM_NYU40)
    labels = np.where(known, table[np.where(known, nyu, 0)], -1)
    odd = np.unique(nyu[~known]).tolist()  # the release has some, 50 and 149 among them
    return nyu, labels, [f"{int((~known).sum())} vertices have labels that NYU40 does not know: {odd[:8]}"] if odd else []


def read_segments(path: Path, num_points: int) -> NDArray[np.int64]:
    """Segment id of every vertex (N,). Raises FormatError or DataError."""
    content = read_json(path)
    try:
        segments = np.asarray(content["segIndices"])
        if segments.ndim != 1 or segments.dtype.kind not in "iu":
            raise ValueError(f"{segments.dtype} of shape {segments.shape}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FormatError(explain("the file has no list of segment ids", where=path, got=error,
                                  expected='{"segIndices": [whole numbers]}')) from error
    _check_count(path, len(segments), num_points)
    return segments.astype(np.int64)


def _check_count(path: Path, count: int, expected: int) -> None:
    if count != expected:
        raise DataError(explain("the file does not fit the mesh", where=path, got=f"{count} vertices",
                                expected=f"{expected}, those of _vh_clean_2.ply",
                                do="It belongs to another mesh of the scene, or one of the two is cut off."))


def read_groups(path: Path) -> tuple[list[Group], list[str]]:
    """The annotated objects in file order, each once: scene0217_00 lists every one twice. Raises FormatError."""
    content = read_json(path)
    groups: dict[tuple[str, bytes], Group] = {}
    try:
        listed = content["segGroups"]
        for entry in listed:
            label, segments = entry["label"].strip(), np.unique(np.asarray(entry["segments"], dtype=np.int64))
            groups.setdefault((label, segments.tobytes()), Group(label, segments))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise FormatError(explain("the file does not list groups of segments", where=path, got=repr(error),
                                  expected='{"segGroups": [{"label": ..., "segments": [...]}]}')) from error
    doubled = len(listed) - len(groups)
    return list(groups.values()), [f"{doubled} of {len(listed)} groups are there twice and count once"] if doubled else []


def group_instances(segments: NDArray[np.int64], groups: Sequence[Group], label_map: dict[str, int], *,
                    where: object) -> tuple[NDArray[np.int64], list[str]]:
    """Instance of every vertex (N,), a running index over the groups that are not wall or floor, -1 for none; and notes.

    Where groups overlap the later one wins. Raises DataError when the groups belong to other segments.
    """
    ids, segment_of_vertex = np.unique(segments, return_inverse=True)
    instance_of_segment = np.full(len(ids), -1, dtype=np.int64)
    wanted = missing = overlap = 0
    objects = [group for group in groups if not is_surface(group.label, label_map)]
    for index, group in enumerate(objects):
        there = group.segments[np.isin(group.segments, ids)]
        rows = np.searchsorted(ids, there)
        wanted, missing = wanted + len(group.segments), missing + len(group.segments) - len(there)
        overlap += int((instance_of_segment[rows] >= 0).sum())
        instance_of_segment[rows] = index
    if 2 * missing > wanted:
        raise DataError(explain("the groups name segments that the mesh does not have", where=where,
                                got=f"{missing} of {wanted} missing", do="This is the aggregation of another mesh "
                                "(_vh_clean.aggregation.json, of the full one?); take <scene>.aggregation.json."))
    counts = {"segments of groups are not in the mesh": missing, "segments are in two groups; the later one wins": overlap}
    unknown = sorted({group.label for group in groups if group.label not in label_map})
    notes = [f"{count} {what}" for what, count in counts.items() if count]
    notes += [f"labels that the label map does not know: {', '.join(unknown[:8])}"] if unknown else []
    return instance_of_segment[segment_of_vertex.reshape(-1)], notes


def is_surface(label: str, label_map: dict[str, int]) -> bool:
    """Whether a raw label means wall or floor, which are no objects."""
    return label in ("wall", "floor") or label_map.get(label) in (WALL, FLOOR)


def _unlike_labels(instances: NDArray[np.int64], nyu: NDArray[np.int64], groups: Sequence[Group],
                   label_map: dict[str, int]) -> list[str]:
    """Note vertices whose own label is not their group's: the vertex labels count, as in the benchmark."""
    expected = np.array([label_map.get(group.label, -1) for group in groups if not is_surface(group.label, label_map)] + [-1])
    unlike = (instances >= 0) & (expected[instances] >= 0) & (expected[instances] != nyu)
    return [f"{int(unlike.sum())} vertices have another label than their group; theirs counts"] if unlike.any() else []
