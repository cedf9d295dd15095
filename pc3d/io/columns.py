"""Between the columns of a file and the columns of a PointCloud.

A file column with a known name and a sane content becomes a field of the cloud; everything else is kept untouched in
``attributes``, so that writing gives it back. A known name whose content cannot be used is kept as ``input_<name>``: its own
name stays free for what is computed later.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, FormatError, explain
from pc3d.structures import PointCloud

AXES = ("x", "y", "z")
COLOURS = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
NORMALS = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
#: Column name in files -> field of PointCloud.
IDS = {"label": "labels", "instance": "instances", "superpoint": "superpoints"}
RESERVED = {*AXES, *COLOURS[0], *NORMALS[0], "intensity", *IDS}

#: Metres between neighbouring numbers of a file from which on shapes of furniture suffer.
COARSE = 0.005

Columns = dict[str, NDArray[Any]]


def cloud_from_columns(columns: Mapping[str, NDArray[Any]], *, source: object, faces: NDArray[Any] | None = None,
                       metadata: dict[str, Any] | None = None, origin: NDArray[Any] | None = None) -> PointCloud:
    """Build a cloud from flat file columns (N,) by name, x, y and z among them; ``source`` is named in errors."""
    rest = dict(columns)
    xyz = np.stack([rest.pop(axis) for axis in AXES], axis=1)
    if len(xyz) == 0:
        raise FormatError(explain("the file holds no points", where=source, got="0 rows", expected="at least one"))
    fields: dict[str, Any] = {"rgb": _triple(rest, COLOURS, colours_to_uint8, source),
                              "normals": _triple(rest, NORMALS, _normals, source),
                              "intensity": _convert(rest, "intensity", _intensity, source)}
    fields["labels"] = _convert(rest, "label", _ids, source)
    fields["instances"] = _convert(rest, "instance", _ids, source)
    fields["superpoints"] = _convert(rest, "superpoint", _superpoints, source)
    _warn_of_coarse_steps(xyz, source)
    fields |= {"attributes": free_names(rest, source), "faces": faces, "metadata": {"file": str(source), **(metadata or {})}}
    if origin is None:
        return PointCloud.from_world(xyz, **fields)
    if np.can_cast(xyz.dtype, np.float32):
        return PointCloud(xyz=xyz, origin=origin, **fields)
    return PointCloud.from_world(xyz + origin, **fields)    # wider numbers may need an origin of their own


def columns_from_cloud(cloud: PointCloud, *, where: object, world: bool = True) -> Columns:
    """Flatten a cloud into named columns (N,); x, y, z in world coordinates, float64 only where the origin asks for it."""
    if len(cloud) == 0:
        raise DataError(explain("a cloud without points cannot be written", where=where, got="0 points"))
    xyz = cloud.world_xyz if world and cloud.origin.any() else cloud.xyz
    columns: Columns = {axis: xyz[:, i] for i, axis in enumerate(AXES)}
    for names, values in ((COLOURS[0], cloud.rgb), (NORMALS[0], cloud.normals)):
        if values is not None:
            columns |= {name: values[:, i] for i, name in enumerate(names)}
    if cloud.intensity is not None:
        columns["intensity"] = cloud.intensity
    for name, field in IDS.items():
        if getattr(cloud, field) is not None:
            columns[name] = _as_int32(getattr(cloud, field), name, where)
    for name, values in cloud.attributes.items():
        for flat_name, column in _flatten(name, np.asarray(values)).items():
            if flat_name in columns:
                raise DataError(explain(f"attribute {flat_name!r} has the name of another column", where=where,
                                        do="Rename the attribute."))
            columns[flat_name] = column
    return columns


def free_names(columns: Mapping[str, NDArray[Any]], source: object) -> Columns:
    """Call columns that have the name of a field but became none ``input_<name>``, with a warning: others need the name."""
    names = {name: name for name in columns}
    for name in RESERVED & columns.keys():
        while names[name] in columns:
            names[name] = f"input_{names[name]}"
    moved = [f"{old!r} as {new!r}" for old, new in names.items() if old != new]
    if moved:
        _warn(source, f"columns that say nothing pc3d can use are kept as mere attributes: {', '.join(moved)}")
    return {names[name]: values for name, values in columns.items()}


def keep_finite(cloud: PointCloud, *, source: object, drop: bool) -> PointCloud:
    """Return the cloud if every coordinate is finite, else raise FormatError with count and first row, or drop those rows."""
    if np.isfinite(cloud.xyz).all():
        return cloud
    finite = np.isfinite(cloud.xyz).all(axis=1)
    count, first = int((~finite).sum()), int(np.argmin(finite))
    if not drop or not finite.any():
        raise FormatError(explain(f"{count} of {len(cloud)} points are not finite", where=f"{source}:row {first}",
                                  got=cloud.xyz[first].tolist(), expected="finite x, y, z",
                                  do="Repair the file, or write one without such rows: python -c \"import pc3d; "
                                     f"pc3d.write(pc3d.read('{source}', drop_nonfinite=True), 'finite.ply')\""))
    _warn(source, f"{count} of {len(cloud)} points are not finite and were dropped; rows are renumbered "
                  "(metadata['kept_rows'] holds the row of the file of each point)")
    kept = cloud[finite]
    return kept.replace(metadata={**kept.metadata, "kept_rows": np.flatnonzero(finite)})


def colours_to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Colours (N, 3) of any scale to 8 bits: bytes as they are, 16 bits / 257, fractions in [0, 1] times 255.

    Raises ValueError for colours outside every known scale.
    """
    if values.dtype == np.uint8:
        return values
    low, high = (values.min(), values.max()) if len(values) else (0, 0)
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
        raise ValueError(f"colours from {low} to {high} fit no known scale")
    if values.dtype.kind == "f" and high <= 1:
        return np.rint(values * 255).astype(np.uint8)
    if high <= 255:
        return np.rint(values).astype(np.uint8)
    if high <= 65535:
        return np.rint(values / 257).astype(np.uint8)
    raise ValueError(f"colours from {low} to {high} fit no known scale")


def _triple(rest: Columns, spellings: tuple[tuple[str, str, str], ...], convert: Callable[[NDArray[Any]], NDArray[Any]],
            source: object) -> NDArray[Any] | None:
    for names in spellings:
        if all(name in rest for name in names):
            try:
                values = convert(np.stack([rest[name] for name in names], axis=1))
            except ValueError as error:
                _warn(source, f"columns {', '.join(names)} are not used: {error}")
                return None
            for name in names:
                del rest[name]
            return values
    return None


def _convert(rest: Columns, name: str, convert: Callable[[NDArray[Any]], NDArray[Any]], source: object) -> NDArray[Any] | None:
    if name not in rest:
        return None
    try:
        values = convert(rest[name])
    except ValueError as error:
        _warn(source, f"column {name!r} is not used: {error}")
        return None
    del rest[name]
    return values


def _normals(values: NDArray[Any]) -> NDArray[np.float32]:
    normals = values.astype(np.float32)
    if not np.isfinite(normals).all():
        raise ValueError(f"{int((~np.isfinite(normals).all(axis=1)).sum())} normals are not finite")
    return normals


def _intensity(values: NDArray[Any]) -> NDArray[np.float32]:
    intensity = values.astype(np.float32)
    if not np.isfinite(intensity).all():
        raise ValueError(f"{int((~np.isfinite(intensity)).sum())} values are not finite")
    return intensity


def _ids(values: NDArray[Any]) -> NDArray[np.int64]:
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise ValueError("ids must be whole numbers")
    if len(values) and (values.min() < -2**31 or values.max() >= 2**31):
        raise ValueError("ids must fit 32 bits")
    return values.astype(np.int64)


def _superpoints(values: NDArray[Any]) -> NDArray[np.int64]:
    ids = _ids(values)
    if len(ids) and ids.min() < 0:
        raise ValueError(f"{int((ids < 0).sum())} points belong to no superpoint")
    if len(ids) and ids.max() >= len(ids):
        return np.unique(ids, return_inverse=True)[1].reshape(-1)
    return ids


def _as_int32(ids: NDArray[np.int64], name: str, where: object) -> NDArray[np.int32]:
    if len(ids) and (ids.min() < -2**31 or ids.max() >= 2**31):
        raise DataError(explain(f"column {name!r} does not fit 32 bits", where=where, got=f"[{ids.min()}, {ids.max()}]"))
    return ids.astype(np.int32)


def _flatten(name: str, values: NDArray[Any]) -> Columns:
    """Split an attribute (N, ...) into flat columns name_0, name_1, ..."""
    if values.ndim == 1:
        return {name: values}
    flat = values.reshape(len(values), -1)
    return {f"{name}_{i}": flat[:, i] for i in range(flat.shape[1])}


def _warn_of_coarse_steps(xyz: NDArray[Any], source: object) -> None:
    """Say so when the file's own numbers are too short for its coordinates, as float32 is for map coordinates."""
    if xyz.dtype.kind != "f" or not np.isfinite(xyz).any():
        return
    step = float(np.spacing(np.abs(xyz[np.isfinite(xyz)]).max()))
    if step > COARSE:
        _warn(source, f"coordinates are stored {step:.3g} m apart: export them as double, or subtract an offset first")


def _warn(source: object, message: str) -> None:
    warnings.warn(f"{source}: {message}", stacklevel=3)
