"""PLY: clouds and meshes, ascii or binary in either byte order."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import ConfigError, FormatError, explain
from pc3d.io.columns import Columns, cloud_from_columns, columns_from_cloud
from pc3d.io.files import atomic_file, check_file
from pc3d.io.ply_body import Body, fan_triangles, index_list, read_binary, read_triangle_mesh
from pc3d.io.ply_header import BYTE_ORDERS, Header, read_header
from pc3d.io.ply_text import read_text
from pc3d.io.text_rows import format_rows
from pc3d.structures import PointCloud

_TYPE_NAMES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint",
               "f4": "float", "f8": "double"}


def read_ply(path: Path) -> PointCloud:
    """Read a PLY file. Polygons become triangle fans; elements other than vertex and face are left out with a warning."""
    file_size = check_file(path)
    header = read_header(path, file_size)
    if header.encoding == "ascii":
        body = read_text(header)
    else:
        body = read_triangle_mesh(header, file_size) or read_binary(header, file_size)
    _warn_of_losses(header, body)
    notes = {"encoding": header.encoding, "comments": header.comments, "obj_info": header.obj_info}
    return cloud_from_columns(body.vertices, source=path, faces=_faces(header, body), metadata={"ply": notes})


def read_ply_columns(path: Path) -> Columns:
    """The flat columns (N,) of the vertices of a PLY file by name, and nothing else of it."""
    file_size = check_file(path)
    header = read_header(path, file_size)
    if header.encoding == "ascii":
        return read_text(header).vertices
    return (read_triangle_mesh(header, file_size, with_faces=False) or read_binary(header, file_size)).vertices


def _faces(header: Header, body: Body) -> NDArray[np.int64] | None:
    if body.polygons is None or not len(body.polygons[1]):
        return None
    indices, lengths = body.polygons
    num_vertices = len(next(iter(body.vertices.values())))
    if len(indices) and (indices.min() < 0 or indices.max() >= num_vertices):
        at = int(np.argmax((indices < 0) | (indices >= num_vertices)))
        row = int(np.searchsorted(np.cumsum(lengths), at, side="right"))
        raise FormatError(explain("a face names a vertex that does not exist", where=f"{header.path}:face row {row}",
                                  got=int(indices[at]), expected=f"0 to {num_vertices - 1}"))
    return indices.reshape(-1, 3) if (lengths == 3).all() else fan_triangles(indices, lengths)


def _warn_of_losses(header: Header, body: Body) -> None:
    """Name what a PointCloud has no place for: other elements, lists on vertices, face properties, faces without area."""
    lost = [f"element {e.name!r}" for e in header.elements if e.name not in ("vertex", "face") and e.count]
    for element in header.elements:
        if element.name == "vertex":
            lost += [f"vertex list {p.name!r}" for p in element.properties if p.count_type]
        if element.name == "face" and element.count:
            lost += [f"face property {p.name!r}" for p in element.properties if p is not index_list(element)]
    if body.polygons is not None and (body.polygons[1] < 3).any():
        lost.append(f"{int((body.polygons[1] < 3).sum())} faces with fewer than 3 corners")
    if lost:
        warnings.warn(f"{header.path}: left out, a point cloud has no place for it: {', '.join(lost)}", stacklevel=4)


def write_ply(cloud: PointCloud, path: Path, encoding: str = "binary_little_endian") -> None:
    """Write a PLY file; ``encoding`` is ascii, binary_little_endian or binary_big_endian.

    Attributes that PLY has no type or name for (text, large integers) are left out with a warning.
    """
    if encoding not in BYTE_ORDERS:
        raise ConfigError(explain("unknown PLY encoding", got=repr(encoding), expected=f"one of {', '.join(BYTE_ORDERS)}"))
    columns = _ply_columns(columns_from_cloud(cloud, where=path), path)
    with atomic_file(path) as file:
        file.write(_header_text(cloud, columns, encoding).encode())
        if encoding == "ascii":
            file.write(format_rows(list(columns.values())).encode())
            if cloud.faces is not None:
                file.write(format_rows([np.full(len(cloud.faces), 3), *cloud.faces.T]).encode())
            return
        file.write(_table(columns, BYTE_ORDERS[encoding]).tobytes())
        if cloud.faces is not None:
            file.write(_face_table(cloud.faces, BYTE_ORDERS[encoding]).tobytes())


def _header_text(cloud: PointCloud, columns: Columns, encoding: str) -> str:
    notes = cloud.metadata.get("ply", {})
    lines = ["ply", f"format {encoding} 1.0"]
    for keyword, key in (("comment", "comments"), ("obj_info", "obj_info")):
        lines += [f"{keyword} {' '.join(str(text).splitlines())}" for text in notes.get(key, [])]
    lines.append(f"element vertex {len(cloud)}")
    lines += [f"property {_TYPE_NAMES[values.dtype.str[1:]]} {name}" for name, values in columns.items()]
    if cloud.faces is not None:
        lines += [f"element face {len(cloud.faces)}", "property list uchar int vertex_indices"]
    return "\n".join([*lines, "end_header", ""])


def _ply_columns(columns: Columns, path: Path) -> Columns:
    """Columns under names and types that PLY knows; a warning names those that have none."""
    held: Columns = {}
    lost = []
    for name, values in columns.items():
        clean, exact = "_".join(name.split()), _ply_values(values)
        if exact is None or clean in held or not (clean and clean.isascii() and clean.isprintable()):
            lost.append(f"{name!r} ({values.dtype})")
        else:
            held[clean] = exact
    if lost:
        warnings.warn(f"{path}: left out, PLY has no type or name for it: {', '.join(lost)}. It knows numbers of up to 32 "
                      "bits, float64 and names in ascii; .npz keeps the rest", stacklevel=4)
    return held


def _ply_values(values: NDArray[Any]) -> NDArray[Any] | None:
    """Give a column one of the eight PLY types without changing a value; None where there is no such type."""
    if values.dtype.str[1:] in _TYPE_NAMES:
        return values
    candidates = ("f4",) if values.dtype.kind == "f" else ("u1", "i4", "u4", "f8")
    if values.dtype.kind in "biuf":
        for type_ in candidates:
            with np.errstate(invalid="ignore", over="ignore"):
                cast = values.astype(type_)
                if np.array_equal(cast.astype(values.dtype), values, equal_nan=values.dtype.kind == "f"):
                    return cast
    return None


def _table(columns: Columns, byte_order: str) -> NDArray[Any]:
    table = np.empty(len(columns["x"]), [(name, byte_order + values.dtype.str[1:]) for name, values in columns.items()])
    for name, values in columns.items():
        table[name] = values
    return table


def _face_table(faces: NDArray[np.int64], byte_order: str) -> NDArray[Any]:
    table = np.empty(len(faces), [("count", "u1"), ("indices", byte_order + "i4", (3,))])
    table["count"], table["indices"] = 3, faces
    return table
