"""NPZ and NPY: numpy's own files. Nothing in them is ever unpickled, and nothing is unpacked before its size is known."""

from __future__ import annotations

import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pc3d.errors import DataError, FormatError, explain
from pc3d.io.bare_columns import name_columns
from pc3d.io.columns import AXES, COLOURS, IDS, NORMALS, Columns, cloud_from_columns, columns_from_cloud, free_names
from pc3d.io.files import atomic_file, check_file
from pc3d.structures import PointCloud

#: Field of the file -> names it goes by.
ALIASES = {
    "xyz": ("xyz", "coord", "coords", "points"), "rgb": ("rgb", "color", "colors", "colour", "colours"),
    "normals": ("normals", "normal"), "intensity": ("intensity",), "label": ("label", "labels"),
    "instance": ("instance", "instances"), "superpoint": ("superpoint", "superpoints"), "faces": ("faces", "triangles"),
    "origin": ("origin",),
}
MAX_MEMBERS = 1000
MAX_RATIO = 100
FREE_BYTES = 64 * 2**20     # an archive that unpacks to less than this may have any ratio: constant columns pack 1:1000
# What zipfile raises; the RuntimeError is for what is encrypted, or packed in a way that it does not know.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)


def read_npz(path: Path) -> PointCloud:
    """Read an NPZ archive by its keys (xyz, coord or points; rgb, normals, label, instance, ...); others become attributes."""
    arrays = read_arrays(path)
    found = {field: _pop(arrays, names) for field, names in ALIASES.items()}
    xyz = found["xyz"]
    if xyz is None:
        raise FormatError(explain("the archive has no points", where=path, got=f"keys {', '.join(arrays) or 'none'}",
                                  expected=f"one of {', '.join(ALIASES['xyz'])}"))
    columns = _rows(path, "xyz", xyz, 3, AXES, len(xyz) if xyz.ndim else 0)
    for field, names in (("rgb", COLOURS[0]), ("normals", NORMALS[0])):
        columns |= _rows(path, field, found[field], 3, names, len(xyz))
    for field in ("intensity", *IDS):
        columns |= _rows(path, field, found[field], 0, (field,), len(xyz))
    others = {name: array for name, array in arrays.items() if array.shape[:1] == (len(xyz),)}
    loose = {name: array for name, array in arrays.items() if name not in others}
    cloud = cloud_from_columns(columns, source=path, faces=_faces(path, found["faces"], len(xyz)),
                               origin=_origin(path, found["origin"]), metadata={"arrays": loose} if loose else {})
    return cloud.replace(attributes=cloud.attributes | free_names(others, path))


def write_npz(cloud: PointCloud, path: Path) -> None:
    """Write an NPZ archive: xyz and origin as they are, other fields under ``ALIASES``, attributes under their own names."""
    if len(cloud) == 0:
        raise DataError(explain("a cloud without points cannot be written", where=path, got="0 points"))
    arrays: dict[str, NDArray[Any]] = {"xyz": cloud.xyz, "origin": cloud.origin}
    own = {"rgb": cloud.rgb, "normals": cloud.normals, "intensity": cloud.intensity, "faces": cloud.faces}
    arrays |= {name: values for name, values in own.items() if values is not None}
    flat = columns_from_cloud(cloud.replace(attributes={}), where=path)
    arrays |= {name: flat[name] for name in IDS if name in flat}
    extras = {**cloud.metadata.get("arrays", {}), **cloud.attributes}
    for name, values in extras.items():
        taken = any(name in names and (field in arrays) for field, names in ALIASES.items())
        if taken:
            raise DataError(explain(f"attribute {name!r} cannot be written", where=path, do="Rename it.",
                                    got="the name of another column"))
        arrays[name] = np.asarray(values)
    write_arrays(arrays, path)


def read_npy(path: Path) -> PointCloud:
    """Read an NPY file: a table (N, 3 or more) of x, y, z and more columns, or a structured array with named columns."""
    size = check_file(path)
    with path.open("rb") as file:
        shape, dtype = _array_header(path, file, size)
    if dtype.names and len(shape) == 1:
        table = _load(path)
        columns = {name: table[name] for name in dtype.names if dtype[name].shape == ()}
        if any(axis not in columns for axis in AXES):
            raise FormatError(explain("the table has no x, y and z", where=path, got=f"columns {', '.join(dtype.names)}"))
        return cloud_from_columns({n: np.ascontiguousarray(v) for n, v in columns.items()}, source=path)
    if len(shape) != 2 or shape[1] < 3 or dtype.kind not in "iuf":
        raise FormatError(explain("this is no table of points", where=path, got=f"{dtype} {shape}",
                                  expected="numbers of shape (N, 3 or more): x, y, z, then colours or other columns"))
    return cloud_from_columns(name_columns(_load(path)), source=path)


def write_npy(cloud: PointCloud, path: Path) -> None:
    """Write an NPY file: (N, 3) when there are only coordinates, else a structured array with named columns, no faces."""
    columns = columns_from_cloud(cloud, where=path)
    if cloud.faces is not None:
        warnings.warn(f"{path}: faces are left out, an .npy file has no place for them", stacklevel=3)
    table = np.stack([columns[axis] for axis in AXES], axis=1)
    if len(columns) > 3:
        table = np.empty(len(cloud), [(name, values.dtype) for name, values in columns.items()])
        for name, values in columns.items():
            table[name] = values
    if table.dtype.hasobject:
        raise DataError(explain("Python objects cannot be written", where=path, expected="arrays of numbers"))
    with atomic_file(path) as file:
        npy_format.write_array(file, table, allow_pickle=False)


def write_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write an NPZ archive that ``read_arrays`` takes: packed, unless it would pack so well that it looks like a bomb.

    Raises DataError for Python objects, FileError when the file cannot be written.
    """
    for name, values in arrays.items():
        if np.asarray(values).dtype.hasobject:
            raise DataError(explain(f"{name!r} cannot be written", where=path, got="Python objects",
                                    expected="numbers or text"))
    with atomic_file(path) as file:
        for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
            file.seek(0)
            file.truncate()
            with zipfile.ZipFile(file, "w", method, compresslevel=1) as archive:
                for name, values in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        npy_format.write_array(member, values, allow_pickle=False)
            if _unpacked(archive.infolist()) <= _most_unpacked(file.seek(0, os.SEEK_END)):
                return


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read every array of an NPZ archive after its promised sizes were held against ``MAX_RATIO`` and ``MAX_MEMBERS``."""
    check_file(path)
    with path.open("rb") as file:
        return unpack_arrays(file, path)


def unpack_arrays(file: BinaryIO, where: object, free: int = FREE_BYTES) -> dict[str, NDArray[Any]]:
    """What ``read_arrays`` does, of a file that is open; up to ``free`` bytes in any ratio. FormatError names ``where``."""
    size = file.seek(0, os.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_archive(where, members, size, free)
            return {m.filename.removesuffix(".npy"): _read_member(where, archive, m) for m in members}
    except _BROKEN as error:
        raise FormatError(explain("the archive cannot be unpacked", where=where, got=str(error) or type(error).__name__,
                                  expected="an .npz written by numpy", do="Copy or export it again.")) from error


def unpack_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, where: object, free: int = FREE_BYTES) -> bytes:
    """One file of an archive that may hold any number of them, under the same limits. FormatError names ``where``."""
    try:
        _check_ratio(where, member.file_size, member.compress_size, free)
        return archive.read(member)
    except _BROKEN as error:
        raise FormatError(explain("the file cannot be unpacked", where=where, got=str(error)[:100])) from error


def _check_archive(where: object, members: list[zipfile.ZipInfo], size: int, free: int) -> None:
    if len(members) > MAX_MEMBERS:
        raise FormatError(explain("too many arrays", where=where, got=len(members), expected=f"at most {MAX_MEMBERS}"))
    names = [m.filename for m in members]
    foreign = [name for name in names if not name.endswith(".npy") or names.count(name) > 1]
    if foreign:
        raise FormatError(explain("this archive was not written by numpy", where=f"{where}:{foreign[0]!r}",
                                  got="a name that is no .npy or is there twice", expected="only .npy members"))
    _check_ratio(where, _unpacked(members), size, free)


def _check_ratio(where: object, unpacked: int, size: int, free: int) -> None:
    if unpacked > _most_unpacked(size, free):
        raise FormatError(explain("the archive would unpack to far more than it holds", where=where,
                                  got=f"{unpacked} bytes from {size}", expected=f"at most {MAX_RATIO} times its size",
                                  do="If it is genuine, save it again with np.savez (uncompressed)."))


def _unpacked(members: list[zipfile.ZipInfo]) -> int:
    return sum(member.file_size for member in members)


def _most_unpacked(size: int, free: int = FREE_BYTES) -> int:
    return max(free, MAX_RATIO * size)


def _read_member(source: object, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as file:
        where = f"{source}:{member.filename}"
        shape, dtype, fortran = _parse_header(where, file)
        wanted = math.prod(shape) * dtype.itemsize
        data = file.read(wanted + 1) if wanted <= member.file_size else b""
        if len(data) != wanted:
            raise FormatError(explain("the array does not have the size its header promises", where=where,
                                      got=f"{member.file_size} bytes", expected=f"{wanted} bytes for {dtype} {shape}"))
    array = np.frombuffer(bytearray(data), dtype) if dtype.itemsize else np.empty(math.prod(shape), dtype)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("=")).reshape(shape)


def _array_header(path: Path, file: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype]:
    shape, dtype, _ = _parse_header(path, file)
    wanted = math.prod(shape) * dtype.itemsize
    if file.tell() + wanted != size:
        raise FormatError(explain("the file does not have the size its header promises", where=path,
                                  got=f"{size - file.tell()} bytes", expected=f"{wanted} bytes for {dtype} {shape}",
                                  do="The file was cut off or is damaged; save it again."))
    return shape, dtype


def _parse_header(where: object, file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, bool]:
    try:
        version = npy_format.read_magic(file)
        parse = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}[version]
        shape, fortran, dtype = parse(file)
    except (zipfile.BadZipFile, zlib.error, OSError):
        raise
    except Exception as error:     # the header is a Python literal: parsing it fails in every way Python has
        raise FormatError(explain("this is no numpy array", where=where, got=f"{type(error).__name__}: {error}"[:200],
                                  expected=".npy format 1.0 or 2.0")) from error
    if dtype.hasobject:
        raise FormatError(explain("the array holds Python objects, which are never loaded", where=where, got=dtype,
                                  expected="numbers", do="Objects can run code on load. Save plain arrays of numbers instead."))
    if any(n < 0 for n in shape):
        raise FormatError(explain("the array has a negative size", where=where, got=shape))
    return shape, dtype, fortran


def _load(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise FormatError(explain("the array cannot be read", where=path, got=str(error))) from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _pop(arrays: dict[str, NDArray[Any]], names: tuple[str, ...]) -> NDArray[Any] | None:
    return next((arrays.pop(name) for name in names if name in arrays), None)


def _rows(path: Path, field: str, values: NDArray[Any] | None, width: int, names: tuple[str, ...], count: int) -> Columns:
    """Check one array against the number of points and split it into flat columns."""
    if values is None:
        return {}
    values = values[:, 0] if not width and values.shape == (count, 1) else values
    expected = (count, width) if width else (count,)
    if values.shape != expected or values.dtype.kind not in "biuf":
        raise FormatError(explain(f"array {field!r} does not fit the points", where=path, got=f"{values.dtype} {values.shape}",
                                  expected=f"numbers of shape {expected}"))
    return {name: np.ascontiguousarray(values[:, i] if width else values) for i, name in enumerate(names)}


def _faces(path: Path, faces: NDArray[Any] | None, count: int) -> NDArray[np.int64] | None:
    if faces is None or faces.size == 0:
        return None
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise FormatError(explain("array 'faces' is no list of triangles", where=path, got=f"{faces.dtype} {faces.shape}",
                                  expected="integers of shape (F, 3)"))
    if faces.min() < 0 or faces.max() >= count:
        row = int(np.argmax(((faces < 0) | (faces >= count)).any(axis=1)))
        raise FormatError(explain("a face names a vertex that does not exist", where=f"{path}:face row {row}",
                                  got=faces[row].tolist(), expected=f"0 to {count - 1}"))
    return faces.astype(np.int64)


def _origin(path: Path, origin: NDArray[Any] | None) -> NDArray[np.float64] | None:
    if origin is not None and (origin.shape != (3,) or origin.dtype.kind not in "iuf" or not np.isfinite(origin).all()):
        raise FormatError(explain("array 'origin' is no point", where=path, got=f"{origin.dtype} {origin.shape}",
                                  expected="three finite numbers"))
    return origin
