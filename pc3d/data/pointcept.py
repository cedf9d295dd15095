"""Scenes that Pointcept prepared: a folder of ``coord.npy``, ``color.npy``, ``normal.npy``, ``segment*.npy`` and so on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.data.lists import DATASETS, read_table
from pc3d.errors import DataError, FormatError, explain
from pc3d.structures import PointCloud

#: Label file and values per point -> the benchmark whose classes its numbers are.
BENCHMARKS = {("segment20.npy", 1): "scannetv2", ("segment200.npy", 1): "scannet200",
              ("segment.npy", 3): "scannetpp", ("segment.npy", 1): "s3dis"}
LABEL_FILES = tuple(dict.fromkeys(file for file, _ in BENCHMARKS))


def is_pointcept(folder: Path) -> bool:
    """Whether a folder holds a scene in Pointcept's layout."""
    return (folder / "coord.npy").is_file()


def read_pointcept(folder: Path, classes: Sequence[str] | None = None) -> PointCloud:
    """Read a scene in Pointcept's layout; labels are places in ``classes``, which decide what label file is read.

    Points of other classes have label and instance -1. Numbers of a one-column ``segment.npy`` stay as they are unless the
    classes are those of S3DIS, as do those of the only label file without ``classes``. Of several labels a point (ScanNet++)
    the first counts; the others become ``more_labels`` and ``more_instances``. Superpoints are not part of the layout.
    Raises FormatError for a file that is no plain array, DataError for one that fits neither the points nor the classes.
    """
    xyz = _load(folder / "coord.npy")
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not len(xyz) or not np.isfinite(xyz).all():
        raise DataError(explain("points must be finite rows of x, y, z", where=folder / "coord.npy", got=f"shape {xyz.shape}"))
    columns: dict[str, Any] = {}
    for column, name in (("rgb", "color.npy"), ("normals", "normal.npy")):
        if (folder / name).is_file():
            columns[column] = _rows(folder / name, len(xyz), 3)
    files = {name: _rows(folder / name, len(xyz), None if name == "segment.npy" else 1)
             for name in LABEL_FILES if (folder / name).is_file()}
    labels = _labels(folder, files, classes) if files else None
    instances = None
    if (folder / "instance.npy").is_file():
        instances = _rows(folder / "instance.npy", len(xyz), labels.shape[1] if labels is not None else None).astype(np.int64)
        instances = np.maximum(instances, -1) if labels is None else np.where(labels >= 0, np.maximum(instances, -1), -1)
    more = {}
    for column, values in (("labels", labels), ("instances", instances)):
        if values is not None:
            columns[column] = values[:, 0]
            if classes is not None and values.shape[1] > 1 and labels is not None and (labels[:, 1:] >= 0).any():
                more[f"more_{column}"] = values[:, 1:]
    return PointCloud.from_world(xyz, metadata={"file": str(folder)}, attributes=more, **columns)


def _labels(folder: Path, files: dict[str, NDArray[Any]], classes: Sequence[str] | None) -> NDArray[np.int64]:
    """Labels (N, 1) or (N, 3) from the one file that has the classes."""
    names = {file: _names(BENCHMARKS[file, values.shape[1]]) for file, values in files.items()}
    fitting = [file for file in files if classes is None or set(classes) <= set(names[file])]
    own = "segment.npy" in files and files["segment.npy"].shape[1] == 1
    if own and classes is not None and set(classes) != set(names["segment.npy"]):
        names["segment.npy"], fitting = tuple(classes), list(dict.fromkeys([*fitting, "segment.npy"]))
    if len(fitting) != 1:
        raise DataError(explain("more than one label file fits the classes" if fitting else "no label file has these classes",
                                where=folder, got=", ".join(fitting or files),
                                expected="the class names of ScanNet (segment20.npy), ScanNet200 (segment200.npy), ScanNet++ "
                                         "(segment.npy, three columns), or the one that counts without the others",
                                do="Copy classes.json from a prepared data set, or from the label column of datasets/."))
    given = np.maximum(files[fitting[0]].astype(np.int64), -1)  # -1 and -100 are unlabelled there
    if classes is None:
        return given
    there = names[fitting[0]]
    if given.max() >= len(there):
        row = int(given.max(axis=1).argmax())
        raise DataError(explain("a label is no class", where=f"{folder / fitting[0]}:row {row}", got=int(given[row].max()),
                                expected=f"-1 (none) to {len(there) - 1}"))
    place = {name: label for label, name in enumerate(classes)}
    return np.array([*(place.get(name, -1) for name in there), -1])[given]


@cache
def _names(benchmark: str) -> tuple[str, ...]:
    """The classes of a benchmark in the order of Pointcept's numbers."""
    names = tuple(row["name"] for row in read_table(DATASETS / benchmark / "classes.tsv", ("name",)))
    return ("wall", "floor", *names) if benchmark == "scannetv2" else names  # that table lists instance classes only


def _rows(path: Path, num_points: int, width: int | None = None) -> NDArray[Any]:
    """The values (N, width) of a file; without ``width`` one or three for each point."""
    values = _load(path)
    values = values.reshape(-1, 1) if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != num_points or values.shape[1] not in ((width,) if width else (1, 3)):
        raise DataError(explain("the file does not fit the scene", where=path, got=f"shape {values.shape}",
                                expected=f"{num_points} rows of {width or '1 or 3'}"))
    return values


def _load(path: Path) -> NDArray[Any]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(explain("the file is no plain array", where=path, got=str(error))) from error
    if values.dtype.kind not in "fiu":
        raise FormatError(explain("the file holds no numbers", where=path, got=values.dtype))
    return values
