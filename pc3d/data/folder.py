"""Own scans with own classes, as they come from a labelling tool: ``<split>/<scan>`` and a list of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pc3d.data.lists import find_first, read_names, read_numbers, read_table
from pc3d.data.pointcept import is_pointcept
from pc3d.data.preparation import Source, WholeScenes
from pc3d.data.scans import read_classes, read_scan
from pc3d.errors import ConfigError, DataError, FileError, FormatError, explain
from pc3d.io import READERS
from pc3d.structures import PointCloud
from pc3d.superpoints import DEFAULT, SuperpointSettings

CLASS_LISTS = ("classes.tsv", "classes.txt", "classes.json")
SPLITS = ("train", "val", "test")
SIDECARS = {"labels": ".labels.txt", "instances": ".instances.txt"}


@dataclass(frozen=True)
class FolderScans(WholeScenes):
    """Reads ``raw/<split>/*`` in any format that pc3d reads; labels and instances from the file or from text beside it."""

    raw: Path
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    numbers: tuple[int, ...]        # what stands in the scans for each class
    superpoints: SuperpointSettings = DEFAULT

    dataset: ClassVar[str] = "folder"

    @classmethod
    def open(cls, raw: Path, splits: Sequence[str] = ()) -> FolderScans:
        """Read the class list and see which splits there are. Raises FileError, FormatError or ConfigError."""
        if not raw.is_dir():
            raise FileError(explain("there is no such folder", where=raw))
        there = tuple(split for split in SPLITS if (raw / split).is_dir())
        if not there:
            raise FileError(explain("there are no splits", where=raw, expected=f"folders {', '.join(SPLITS)} with scans"))
        missing = [split for split in splits if split not in there]
        if missing:
            raise ConfigError(explain("there is no such split", where=raw, got=missing[0],
                                      expected=f"one of {', '.join(there)}"))
        return cls(raw, tuple(splits) or there, *read_class_list(raw))

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides the result besides the files."""
        return {"numbers": list(self.numbers)}

    def sources(self) -> list[Source]:
        """One for every scan. Raises FileError for a split without scans or with two of the same name."""
        found = []
        for split in self.splits:
            scans = sorted(path for path in (self.raw / split).iterdir() if _is_scan(path))
            names = [path.name if path.is_dir() else path.stem for path in scans]
            if not scans or len(set(names)) < len(names):
                raise FileError(explain("two scans have one name" if scans else "the split holds no scans",
                                        where=self.raw / split, expected=f"scans of {', '.join(READERS)}"))
            for path, name in zip(scans, names):
                files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
                beside = [path.with_name(name + ending) for ending in SIDECARS.values()]
                found.append(Source(split, name, (*files, *(other for other in beside if other.is_file()))))
        return found

    def read(self, source: Source) -> tuple[PointCloud, list[str]]:
        """A scan with labels in the order of the classes. Raises DataError for a number that is no class."""
        path = source.files[0].parent if source.files[0].suffix == ".npy" and is_pointcept(source.files[0].parent) \
            else source.files[0]
        named = self.numbers == tuple(range(len(self.classes)))
        cloud = read_scan(path, self.classes if named else None)
        cloud = cloud if path.is_dir() else cloud.replace(attributes={})
        for other in source.files:
            for column, ending in SIDECARS.items():
                if other.name.endswith(ending):
                    cloud = cloud.replace(**{column: _read_numbers(other, len(cloud))})
        if source.split == "test" and (cloud.labels is None or cloud.instances is None):
            return cloud.replace(labels=None, instances=None), []
        if cloud.labels is None or cloud.instances is None:
            lacking = "label" if cloud.labels is None else "instance"
            raise DataError(explain(f"the scan has no column {lacking!r}", where=path,
                                    do=f"Add it, or {source.name}{SIDECARS[f'{lacking}s']} with a number a line beside it."))
        labels = self._labels(path, cloud.labels)
        instances = np.where(labels >= 0, np.maximum(cloud.instances, -1), -1)
        return cloud.replace(labels=labels, instances=instances), _mixed(labels, instances)

    def _labels(self, path: Path, given: NDArray[np.int64]) -> NDArray[np.int64]:
        labels = np.full(len(given), -1, dtype=np.int64)
        unknown = given >= 0
        for label, number in enumerate(self.numbers):
            labels[given == number] = label
            unknown &= given != number
        if unknown.any():
            row = int(unknown.argmax())
            raise DataError(explain("a label is no class of the list", where=f"{path}:row {row}", got=int(given[row]),
                                    expected=f"-1 (none), {', '.join(map(str, self.numbers[:20]))}"))
        return labels


def _mixed(labels: NDArray[np.int64], instances: NDArray[np.int64]) -> list[str]:
    """A note on instances whose points are of several classes: numbers that begin anew in each class, or say nothing."""
    pairs = np.unique(np.stack([instances, labels])[:, instances >= 0], axis=1)
    numbers, classes = np.unique(pairs[0], return_counts=True)
    mixed = numbers[classes > 1]
    return [f"{len(mixed)} of {len(numbers)} instances have points of several classes, such as {mixed[0]}; each counts as one "
            "object of the class of its first point"] if len(mixed) else []


def _is_scan(path: Path) -> bool:
    if path.name.startswith(".") or path.name.endswith(tuple(SIDECARS.values())):
        return False
    return is_pointcept(path) if path.is_dir() else path.suffix.lower() in READERS


def _read_numbers(path: Path, count: int) -> NDArray[np.int64]:
    """A whole number for every point, one a line."""
    numbers = read_numbers(path)
    if len(numbers) != count:
        raise DataError(explain("the file does not fit its scan", where=path, got=f"{len(numbers)} lines", expected=count))
    return numbers


def read_class_list(raw: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Class names, and the number that stands for each in the scans (without ``classes.tsv``: its place in the list).

    Raises FileError when there is no list, FormatError when it is broken.
    """
    path = find_first([raw], CLASS_LISTS[0]) or find_first([raw], CLASS_LISTS[1]) or find_first([raw], CLASS_LISTS[2])
    if path is None:
        raise FileError(explain("there is no list of classes", where=raw, expected=f"one of {', '.join(CLASS_LISTS)}",
                                do="classes.txt holds a name a line; classes.tsv the columns label and name."))
    if path.suffix == ".tsv":
        table = read_table(path, ("label", "name"))
        names, given = [row["name"] for row in table], [row["label"] for row in table]
    else:
        names = list(read_classes(raw)) if path.suffix == ".json" else read_names(path)
        given = [str(place) for place in range(len(names))]
    numbers = [int(number) for number in given if number.isdecimal()]
    if not names or len(set(names)) < len(names) or len(set(numbers)) < len(names):
        raise FormatError(explain("classes must have names and numbers of their own", where=path,
                                  got=", ".join(f"{number} {name}" for number, name in zip(given, names))[:200] or "no class"))
    return tuple(names), tuple(numbers)
