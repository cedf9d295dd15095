"""A prepared scan on disk: a folder with one raw array per column (28 bytes a point) and ``scene.json`` that describes them."""

from __future__ import annotations

import glob
import hashlib
import json
import mmap
import os
import shutil
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.errors import DataError, FileError, FormatError, explain
from pc3d.io.files import read_json
from pc3d.ops import unit_normals
from pc3d.structures import PointCloud

RECORD = "scene.json"
FORMAT_VERSION = 1
NORMAL_SCALE = 127  # normals are kept as int8: at most 0.4 degrees off

#: Column of PointCloud -> (type on disk, values per point; 0 for a flat column).
COLUMNS: dict[str, tuple[type[np.generic], int]] = {
    "xyz": (np.float32, 3), "rgb": (np.uint8, 3), "normals": (np.int8, 3),
    "superpoints": (np.int32, 0), "instances": (np.int32, 0), "labels": (np.int16, 0),
    "more_instances": (np.int32, 2), "more_labels": (np.int16, 2), "ignored": (np.bool_, 0),
}
#: Columns that are attributes of the cloud: what ScanNet++ knows of a vertex besides its smallest object.
ATTRIBUTES = ("more_instances", "more_labels", "ignored")


def write_scene(cloud: PointCloud, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the columns of a cloud as ``<column>.npy`` and return the record; the folder appears whole or not at all.

    ``facts`` (where it came from, notes) go into the record as they are. Faces are left out: superpoints and normals
    were made from them. Raises FileError, and DataError where an id does not fit its type.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):  # of runs that were killed
            if leftover.stem.removeprefix(f".{folder.name}.").isdigit():           # else of "scan.v2" beside "scan"
                shutil.rmtree(leftover)
        temporary.mkdir()
        try:
            record = _write_files(cloud, temporary, facts)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise FileError(explain("the scene cannot be written", where=folder, got=error.strerror or error,
                                do="Check that the disk has room and the folder is writable.")) from error
    return record


def _write_files(cloud: PointCloud, folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    columns = {}
    for name in COLUMNS:
        values = cloud.attributes.get(name) if name in ATTRIBUTES else getattr(cloud, name)
        if values is not None:
            path = folder / f"{name}.npy"
            np.save(path, _to_disk(name, values))
            columns[name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    record = {"format": FORMAT_VERSION, "points": len(cloud), "superpoints": _count(cloud.superpoints),
              "instances": _count(cloud.instances), "origin": cloud.origin.tolist(), **facts, "columns": columns}
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def _to_disk(name: str, values: NDArray[Any]) -> NDArray[Any]:
    dtype = COLUMNS[name][0]
    if name == "normals":
        return np.rint(np.clip(values, -1, 1) * NORMAL_SCALE).astype(dtype)
    if np.issubdtype(dtype, np.integer) and values.size:
        limits = np.iinfo(np.dtype(dtype))
        if values.min() < limits.min or values.max() > limits.max:
            raise DataError(explain(f"column {name!r} does not fit {np.dtype(dtype).name}",
                                    got=f"[{values.min()}, {values.max()}]"))
    return values.astype(dtype, copy=False)


def _count(ids: NDArray[np.int64] | None) -> int:
    """Number of different ids that are not negative."""
    if ids is None or ids.max(initial=-1) >= len(ids):  # counting is a tenth of the time of sorting
        return 0 if ids is None else len(np.unique(ids[ids >= 0]))
    return int(np.count_nonzero(np.bincount(ids[ids >= 0])))


def is_prepared(folder: Path) -> bool:
    """Whether a folder holds a prepared scene."""
    return (folder / RECORD).is_file()


def read_record(folder: Path) -> dict[str, Any]:
    """Read ``scene.json``. Raises FileError, or FormatError for broken json or an unknown format."""
    record = read_json(folder / RECORD)
    if not isinstance(record, dict) or record.get("format") != FORMAT_VERSION:
        raise FormatError(explain("this scene was prepared in another format", where=folder / RECORD,
                                  expected=f"format {FORMAT_VERSION}", do="Prepare it again with this version of pc3d."))
    columns, origin = record.get("columns"), record.get("origin")
    whole = (isinstance(columns, dict) and "xyz" in columns and all(isinstance(column, dict) for column in columns.values())
             and all(isinstance(record.get(name), int) for name in ("points", "superpoints", "instances"))
             and isinstance(origin, list) and len(origin) == 3 and all(isinstance(value, int | float) for value in origin))
    if not whole:
        raise FormatError(explain("the record lacks counts, origin or columns", where=folder / RECORD,
                                  do="Prepare the scene again."))
    return record


def read_scene(folder: Path) -> PointCloud:
    """Read a prepared scene; columns are memory-mapped, so only what is used leaves the disk, and what is changed stays here.

    Raises FileError or FormatError naming the column file that is missing or does not fit the record.
    """
    record = read_record(folder)
    columns: dict[str, Any] = {}
    for name in record["columns"]:
        columns[name] = _load(folder / f"{name}.npy", name, record["points"])
    if "normals" in columns:
        columns["normals"] = unit_normals(torch.from_numpy(columns["normals"])).numpy()
    attributes = {name: columns.pop(name) for name in ATTRIBUTES if name in columns}
    return PointCloud(origin=np.array(record["origin"]), metadata={"file": str(folder)}, attributes=attributes, **columns)


def _load(path: Path, name: str, points: int) -> NDArray[Any]:
    if name not in COLUMNS:
        raise FormatError(explain("unknown column", where=path, expected=f"one of {', '.join(COLUMNS)}"))
    dtype, width = COLUMNS[name]
    shape = (points, width) if width else (points,)
    head = _head(np.dtype(dtype).str, shape)
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if content[:len(head)] == head and len(content) == len(head) + points * max(width, 1) * np.dtype(dtype).itemsize:
            return np.frombuffer(content, dtype, offset=len(head)).reshape(shape)
        values = np.load(path, mmap_mode="c", allow_pickle=False)  # another version of the header, or a wrong file
    except (OSError, ValueError) as error:
        raise FormatError(explain("the column cannot be read", where=path, got=str(error),
                                  do="Prepare the scene again.")) from error
    if values.shape != shape or values.dtype != dtype:
        raise FormatError(explain("the column does not fit its record", where=path, got=f"{values.dtype} {values.shape}",
                                  expected=f"{np.dtype(dtype).name} {shape}", do="Prepare the scene again."))
    return values


@lru_cache(maxsize=1024)
def _head(dtype: str, shape: tuple[int, ...]) -> bytes:
    """How numpy begins a file of this type and shape: to compare with takes a tenth of the time of reading it."""
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": shape})
    return head.getvalue()


def is_current(folder: Path, source: str) -> bool:
    """Whether a scene is there, whole, and made from the source with this hash."""
    try:
        record = read_record(folder)
        sizes = {name: (folder / f"{name}.npy").stat().st_size for name in record["columns"]}
        return bool(record.get("source") == source
                    and all(sizes[name] == column["bytes"] for name, column in record["columns"].items()))
    except (FileError, OSError, KeyError, TypeError):
        return False


def check_scene(folder: Path, num_classes: int) -> None:
    """Check a prepared scene against its record, to the byte. Raises FileError, FormatError or DataError."""
    record = read_record(folder)
    for name, column in record["columns"].items():
        _load(folder / f"{name}.npy", name, record["points"])
        if sha256(folder / f"{name}.npy") != column.get("sha256"):
            raise FormatError(explain("the column is not what was written", where=folder / f"{name}.npy",
                                      do="Delete the scene's folder and prepare it again."))
    cloud = read_scene(folder).validate(source=folder)
    limits = {"labels": num_classes, "more_labels": num_classes, "instances": None, "superpoints": record["superpoints"]}
    for column_name, limit in limits.items():
        values = cloud.attributes.get(column_name) if column_name in ATTRIBUTES else getattr(cloud, column_name)
        if values is not None and (values.min() < -1 or (limit is not None and values.max() >= limit)):
            raise DataError(explain(f"column {column_name!r} holds ids out of range", where=folder,
                                    got=f"[{values.min()}, {values.max()}]", expected=f"[-1, {limit})"))


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
