"""Scenes that PointGroup and its heirs (SoftGroup, SPFormer, ISBNet, MAFT, Relation3D) prepared: ``*_inst_nostuff.pth``.

A file is a tuple of arrays: points minus their mean, colours in [-1, 1] (ISBNet on S3DIS: 0..255), then

    2 members                              a test scene
    3  superpoints                         a test scene of SPFormer
    4  labels, instances
    5  superpoints, labels, instances      SPFormer
    6  labels, instances, room, scene      S3DIS of SoftGroup

Relation3D keeps ``<scene>_superpoints.pth`` and ``<scene>_normals.pth`` beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pc3d.data.preparation import Source, WholeScenes
from pc3d.data.s3dis import AREAS
from pc3d.data.s3dis import CLASSES as S3DIS_CLASSES
from pc3d.data.scannet200 import class_ids
from pc3d.data.scannetv2 import NYU40_IDS
from pc3d.errors import ConfigError, DataError, FileError, FormatError, explain
from pc3d.io.arrays_pth import read_arrays
from pc3d.structures import PointCloud
from pc3d.superpoints import DEFAULT, SuperpointSettings

SUFFIX = "_inst_nostuff.pth"
SPLITS = ("train", "val", "test")
SOFTGROUP_ORDER = ("ceiling", "floor", "wall", "beam", "column", "window", "door", "chair", "table", "bookcase", "sofa",
                   "board", "clutter")
#: What stands where in a tuple, by its length.
MEMBERS = {2: (), 3: ("superpoints",), 4: ("labels", "instances"), 5: ("superpoints", "labels", "instances"),
           6: ("labels", "instances")}


def label_tables() -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Name of a set -> its classes, and the class (-1: none) of each number that its files use."""
    def without_wall_and_floor(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        return tuple(names), (-1, -1, *range(len(names)))

    return {"scannetv2": without_wall_and_floor(tuple(NYU40_IDS)), "scannet200": without_wall_and_floor(tuple(class_ids())),
            "s3dis": (S3DIS_CLASSES, tuple(range(len(S3DIS_CLASSES)))),
            "s3dis-softgroup": (S3DIS_CLASSES, tuple(map(S3DIS_CLASSES.index, SOFTGROUP_ORDER)))}


@dataclass(frozen=True)
class NoStuff(WholeScenes):
    """Reads ``raw/<split>/<scene>_inst_nostuff.pth``; of S3DIS also ``raw/Area_k_<room>_inst_nostuff.pth``."""

    raw: Path
    classes: tuple[str, ...]
    class_of_number: tuple[int, ...]
    files: tuple[tuple[str, Path], ...]     # split, file
    superpoints: SuperpointSettings = DEFAULT

    dataset: ClassVar[str] = "inst_nostuff"

    @classmethod
    def open(cls, raw: Path, splits: Sequence[str] = (), labels: str = "scannetv2") -> NoStuff:
        """Find the files; ``labels`` says what their numbers mean. Raises FileError or ConfigError."""
        tables = label_tables()
        if labels not in tables:
            raise ConfigError(explain("unknown set of labels", got=repr(labels), expected=f"one of {', '.join(tables)}"))
        files = [(split, path) for split in SPLITS for path in sorted((raw / split).glob(f"*{SUFFIX}"))]
        files += [(area, path) for area in AREAS for path in sorted(raw.glob(f"{area}_*{SUFFIX}"))]
        files = [(split, path) for split, path in files if not splits or split in splits]
        if not files:
            raise FileError(explain("there are no such files", where=raw, expected=f"train/<scene>{SUFFIX} and so on"))
        return cls(raw, *tables[labels], tuple(files))

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides the result besides the files."""
        return {"class_of_number": list(self.class_of_number)}

    def sources(self) -> list[Source]:
        """One for every file."""
        found = []
        for split, path in self.files:
            name = path.name.removesuffix(SUFFIX)
            beside = [path.with_name(f"{name}_{column}.pth") for column in ("superpoints", "normals")]
            found.append(Source(split, name, (path, *(other for other in beside if other.is_file()))))
        return found

    def read(self, source: Source) -> tuple[PointCloud, list[str]]:
        """The points of a file with colours, and labels, instances, superpoints and normals where there are any."""
        path = source.files[0]
        members = read_arrays(path)
        if len(members) not in MEMBERS:
            raise FormatError(explain("the tuple has another length than any of this family", where=path, got=len(members),
                                      expected=f"one of {', '.join(map(str, MEMBERS))}"))
        columns = dict(zip(MEMBERS[len(members)], members[2:]))
        for other in source.files[1:]:
            columns[other.stem.rpartition("_")[2]] = read_arrays(other)[0]
        xyz, rgb = (_rows(path, name, values, 3) for name, values in zip(("points", "colours"), members))
        notes = ["colours were taken as 0..255"] if rgb.max(initial=0) > 1 else []
        rgb = rgb if notes else (rgb + 1) * 127.5
        cloud = PointCloud.from_world(xyz, rgb=np.rint(rgb.clip(0, 255)).astype(np.uint8), metadata={"file": str(path)})
        if "superpoints" in columns:
            ids = _rows(path, "superpoints", columns["superpoints"], 0, len(cloud))
            cloud = cloud.replace(superpoints=np.unique(ids, return_inverse=True)[1].reshape(-1))
        if "normals" in columns:
            cloud = cloud.replace(normals=_rows(path, "normals", columns["normals"], 3, len(cloud)).astype(np.float32))
        if "labels" in columns:
            labels = self._labels(path, _rows(path, "labels", columns["labels"], 0, len(cloud)))
            instances = _rows(path, "instances", columns["instances"], 0, len(cloud))
            cloud = cloud.replace(labels=labels, instances=np.where(labels >= 0, np.maximum(instances, -1), -1))
        return cloud, notes

    def _labels(self, path: Path, numbers: NDArray[Any]) -> NDArray[np.int64]:
        """Class of every number; below zero (-100, -1) is none. Raises DataError for a number without a class."""
        if numbers.max(initial=-1) >= len(self.class_of_number):
            row = int(numbers.argmax())
            raise DataError(explain("a label has no class", where=f"{path}:row {row}", got=numbers[row],
                                    expected=f"below {len(self.class_of_number)}", do="Say with --labels what they mean."))
        return np.array([*self.class_of_number, -1])[np.where(numbers < 0, -1, numbers).astype(np.int64)]


def _rows(path: Path, name: str, values: Any, width: int, rows: int | None = None) -> NDArray[Any]:
    """A member that holds (rows, width) finite numbers, or (rows,) when width is 0."""
    array = np.asarray(values)
    shape = (len(array) if rows is None and array.ndim else rows, *([width] if width else []))
    if array.dtype.kind not in "biuf" or array.shape != shape:
        raise DataError(explain(f"the {name} do not fit", where=path, got=f"{array.dtype} {array.shape}",
                                expected=f"numbers {shape}"))
    if not (finite := np.isfinite(array).reshape(len(array), -1).all(axis=1)).all():
        row = int(finite.argmin())
        raise DataError(explain(f"the {name} are not finite", where=f"{path}:row {row}", got=array[row].tolist()))
    return array
