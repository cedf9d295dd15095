"""Scenes that Pointcept prepared: a folder of ``coord.npy``, ``color.npy``, ``normal.npy``, ``segment*.npy`` and so on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, FormatError, explain
from pc3d.structures import PointCloud

#: Label file -> how many of its first classes are wall and floor, which are no instances. ``segment.npy`` is that of S3DIS.
LABEL_FILES = {"segment20.npy": 2, "segment.npy": 0}


def is_pointcept(folder: Path) -> bool:
    """Whether a folder holds a scene in Pointcept's layout."""
    return (folder / "coord.npy").is_file()


def read_pointcept(folder: Path) -> PointCloud:
    """Read a scene in Pointcept's layout; labels of ``segment20.npy`` become the 18 instance classes of ScanNet.

    Points without an instance class have label and instance -1. Superpoints are not part of the layout.
    Raises FormatError for a file that is no plain array, DataError for one that does not fit the points.
    """
    xyz = _load(folder / "coord.npy")
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not len(xyz) or not np.isfinite(xyz).all():
        raise DataError(explain("points must be finite rows of x, y, z", where=folder / "coord.npy", got=f"shape {xyz.shape}"))
    columns: dict[str, Any] = {}
    for column, name in (("rgb", "color.npy"), ("normals", "normal.npy"), ("instances", "instance.npy")):
        if (folder / name).is_file():
            columns[column] = _column(folder / name, len(xyz), flat=column == "instances")
    labels_file = next((name for name in LABEL_FILES if (folder / name).is_file()), None)
    if labels_file is not None:
        labels = _column(folder / labels_file, len(xyz), flat=True).astype(np.int64) - LABEL_FILES[labels_file]
        columns["labels"] = np.maximum(labels, -1)  # -1 and -100 are unlabelled there
        if "instances" in columns:
            columns["instances"] = np.where(columns["labels"] >= 0, np.maximum(columns["instances"], -1), -1)
    return PointCloud.from_world(xyz, metadata={"file": str(folder)}, **columns)


def _column(path: Path, num_points: int, *, flat: bool) -> NDArray[Any]:
    values = _load(path)
    values = values.reshape(-1) if flat and values.shape == (num_points, 1) else values
    if values.shape != ((num_points,) if flat else (num_points, 3)):
        raise DataError(explain("the file does not fit coord.npy", where=path, got=f"shape {values.shape}",
                                expected=f"{num_points} rows"))
    return values


def _load(path: Path) -> NDArray[Any]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(explain("the file is no plain array", where=path, got=str(error))) from error
    if values.dtype.kind not in "fiu":
        raise FormatError(explain("the file holds no numbers", where=path, got=values.dtype))
    return values
