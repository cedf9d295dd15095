"""LAS and LAZ through laspy: every dimension of the file, its scale and offset, and its CRS records survive a round trip."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import BackendError, DataError, FormatError, explain, require_package
from pc3d.io.columns import AXES, COLOURS, Columns, cloud_from_columns, columns_from_cloud
from pc3d.io.files import atomic_file, check_file
from pc3d.io.las_header import check_las_header
from pc3d.structures import PointCloud

EXACT_INTENSITY = "intensity_float"     # LAS intensity is 16 bits; others go into an extra dimension of this name
_COORDINATES = ("X", "Y", "Z")           # whole numbers of the grid
_WITH_COLOUR = {0: 2, 1: 3, 4: 5, 6: 7, 9: 10}
_OWN_RECORDS = {("LASF_Spec", 4), ("laszip encoded", 22204)}      # extra dimensions and LAZ: laspy writes these itself


def read_las(path: Path) -> PointCloud:
    """Read a LAS or LAZ file; 16-bit colours become 8 bits, extra dimensions label, instance, superpoint the cloud's own.

    Colours that are all zero are no colours. ``metadata["las"]`` keeps point format, scales, offsets and variable records.
    """
    _require_laspy()
    _call_laspy(path, check_las_header, path, check_file(path))
    las = _call_laspy(path, _load, path)
    columns: Columns = {axis: np.array(las[axis], dtype=np.float64) for axis in AXES}
    for name in las.point_format.dimension_names:
        if name not in _COORDINATES:
            columns[_free_name(name)] = np.ascontiguousarray(las[name])
    if EXACT_INTENSITY in columns:
        columns["intensity"] = columns.pop(EXACT_INTENSITY)
    return cloud_from_columns(columns, source=path, metadata={"las": _notes(las, _pop_dark_colours(columns))})


def write_las(cloud: PointCloud, path: Path) -> None:
    """Write LAS, or LAZ when the suffix says so; columns that LAS does not know become extra dimensions. Faces are left out.

    Raises DataError for what LAS cannot hold as it is: coordinates that are not finite, an attribute of another type or range
    than the dimension of its name, or with the name of another column.
    """
    _require_laspy()
    if not np.isfinite(cloud.xyz).all():
        row = int(np.argmin(np.isfinite(cloud.xyz).all(axis=1)))
        raise DataError(explain("LAS keeps whole numbers: every coordinate must be finite", where=f"{path}:row {row}",
                                got=cloud.xyz[row].tolist()))
    if cloud.faces is not None:
        warnings.warn(f"{path}: faces are left out, a LAS file has no place for them", stacklevel=3)
    flat = columns_from_cloud(cloud.replace(attributes={}), where=path)
    attributes = _flat_attributes(cloud)
    if taken := sorted(attributes.keys() & {*flat, *_COORDINATES, *COLOURS[0], EXACT_INTENSITY}):
        raise DataError(explain(f"attribute {taken[0]!r} has the name of another column", where=path, do="Rename it."))
    columns: Columns = {**attributes, **flat}
    notes = cloud.metadata.get("las", {})
    las = _call_laspy(path, _build, cloud, columns, notes, path)
    with atomic_file(path) as file:
        _call_laspy(path, lambda: las.write(file, do_compress=path.suffix.lower() == ".laz"))


def _require_laspy() -> None:
    require_package("laspy", extra="io", purpose="reading and writing LAS")
    require_package("lazrs", extra="io", purpose="reading and writing LAZ")


def _load(path: Path) -> Any:
    import laspy

    with laspy.open(path) as reader:
        return reader.read()


def _call_laspy(path: Path, function: Any, *arguments: Any) -> Any:
    """Call laspy and turn whatever it throws on a broken file into a FormatError; lazrs panics are BaseExceptions."""
    try:
        return function(*arguments)
    except (BackendError, FormatError, DataError, OSError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise FormatError(explain("laspy cannot handle this file", where=path, got=f"{type(error).__name__}: {error}"[:300],
                                  do="The file is damaged, or of a kind laspy does not know.")) from error


def _free_name(name: str) -> str:
    """An extra dimension must not pass for a coordinate."""
    return f"{name}_" if name in AXES else name


def _pop_dark_colours(columns: Columns) -> int:
    """Drop colours that are all zero, and return the bits of those that stay (0 for none)."""
    names = COLOURS[0]
    if any(name not in columns for name in names):
        return 0
    brightest = max(int(columns[name].max()) for name in names)
    if brightest == 0:
        for name in names:
            del columns[name]
    return 0 if brightest == 0 else 8 if brightest <= 255 else 16


def _notes(las: Any, colour_bits: int) -> dict[str, Any]:
    header = las.header
    return {"version": str(header.version), "point_format": header.point_format.id, "colour_bits": colour_bits,
            "scales": np.array(header.scales), "offsets": np.array(header.offsets),
            "encoding": int(header.global_encoding.value), "vlrs": _records(header.vlrs), "evlrs": _records(las.evlrs or [])}


def _records(records: Any) -> list[tuple[str, int, str, bytes]]:
    kept = [(r.user_id, r.record_id, r.description, r.record_data_bytes()) for r in records]
    return [record for record in kept if record[:2] not in _OWN_RECORDS]


def _flat_attributes(cloud: PointCloud) -> Columns:
    """Attributes by name; wide ones stay whole up to the three values an extra dimension can hold."""
    columns: Columns = {}
    for name, values in cloud.attributes.items():
        wide = values.reshape(len(values), -1)
        if wide.shape[1] in (1, 2, 3):
            columns[name] = values if values.ndim == 1 else wide
        else:
            columns |= {f"{name}_{i}": wide[:, i] for i in range(wide.shape[1])}
    return columns


def _build(cloud: PointCloud, columns: Columns, notes: dict[str, Any], path: Path) -> Any:
    import laspy

    point_format = notes.get("point_format", 6)
    if cloud.rgb is not None:
        point_format = _WITH_COLOUR.get(point_format, point_format)
    header = laspy.LasHeader(point_format=point_format, version=notes.get("version", "1.4"))
    header.global_encoding.value = notes.get("encoding", header.global_encoding.value)
    header.vlrs.extend(laspy.VLR(*record) for record in notes.get("vlrs", []))
    header.offsets, header.scales = _grid(cloud.world_xyz, notes)
    columns = {name: values for name, values in columns.items() if name not in AXES}
    columns = _las_intensity(columns)
    _add_extra_dimensions(header, columns, path)
    las = laspy.LasData(header)
    las.x, las.y, las.z = cloud.world_xyz.T
    color_scale = 1 if notes.get("colour_bits") == 8 else 257
    for name, values in columns.items():
        _put(las, name, values.astype(np.uint16) * color_scale if name in COLOURS[0] else values, path)
    if notes.get("evlrs"):
        from laspy.vlrs.vlrlist import VLRList

        las.evlrs = VLRList([laspy.VLR(*record) for record in notes["evlrs"]])
    return las


def _put(las: Any, name: str, values: NDArray[Any], path: Path) -> None:
    """Fill a dimension, or raise DataError where it holds other numbers then: laspy wraps what is too large."""
    try:
        with np.errstate(invalid="ignore"):
            las[name] = values
        held = np.asarray(las[name])
    except OverflowError:
        held = np.empty(0)
    if not np.array_equal(held, values, equal_nan=values.dtype.kind == "f"):
        raise DataError(explain(f"dimension {name!r} of LAS cannot hold this attribute", where=path,
                                got=f"{values.dtype} from {values.min()} to {values.max()}", do="Rename it."))


def _grid(world: NDArray[np.float64], notes: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offset and scale of the integer grid: the file's own if the points fit it, else 0.1 mm or what 32 bits allow."""
    low, high = world.min(axis=0), world.max(axis=0)
    if "scales" in notes:
        offsets, scales = notes["offsets"], notes["scales"]
        if (np.maximum(np.abs(low - offsets), np.abs(high - offsets)) < scales * (2**31 - 1)).all():
            return offsets, scales
    return np.floor(low), np.maximum(1e-4, (high - low + 1) / (2**31 - 1))


def _las_intensity(columns: Columns) -> Columns:
    values = columns.get("intensity")
    if values is None or ((values >= 0) & (values <= 65535) & (values == np.rint(values))).all():
        return columns
    return {EXACT_INTENSITY if name == "intensity" else name: column for name, column in columns.items()}


def _add_extra_dimensions(header: Any, columns: Columns, path: Path) -> None:
    import laspy

    standard = set(header.point_format.dimension_names)
    for name, values in columns.items():
        if name in standard:
            continue
        if len(name.encode()) > 32 or values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
            raise DataError(explain(f"LAS cannot hold attribute {name!r}", where=path,
                                    got=f"{values.dtype}, name of {len(name)} letters",
                                    expected="numbers, and a name of up to 32 bytes"))
        code = {"b1": "u1", "f2": "f4"}.get(values.dtype.str[1:], values.dtype.str[1:])
        header.add_extra_dim(laspy.ExtraBytesParams(name, code if values.ndim == 1 else f"{values.shape[1]}{code}"))
