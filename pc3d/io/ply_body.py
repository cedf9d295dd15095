"""The body of a PLY file: rows of numbers, and lists of vertex indices cut into triangles."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plyfile import PlyData, PlyParseError

from pc3d.errors import FormatError, explain
from pc3d.io.ply_header import Element, Header, Property

INDEX_LISTS = ("vertex_indices", "vertex_index")


@dataclass
class Body:
    """What a body held: vertex columns (N,) by name, and polygons as a flat list of indices with lengths."""

    vertices: dict[str, NDArray[Any]]
    polygons: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None   # indices, length of each polygon


def index_list(element: Element) -> Property | None:
    """The property of a face element that lists its vertices."""
    return next((p for p in element.properties if p.name in INDEX_LISTS and p.count_type and p.type[0] != "f"), None)


def fail(header: Header, element: Element, row: int, what: str, got: object = None, expected: object = None) -> FormatError:
    """A FormatError at one row of one element."""
    return FormatError(explain(what, where=f"{header.path}:{element.name} row {row}", got=got, expected=expected,
                               do="The file was cut off or is damaged; export it again."))


def read_triangle_mesh(header: Header, file_size: int, *, with_faces: bool = True) -> Body | None:
    """Read a binary cloud or pure triangle mesh through a memory map; None when the file is anything else."""
    elements = header.elements
    faces = header.element("face")
    wanted = index_list(faces) if faces else None
    lists = [p for e in elements for p in e.properties if p.count_type]
    if any(p is not wanted for p in lists) or not header.is_ascii or not all(e.count for e in elements):
        return None
    promised = sum(e.count * e.dtype(header.byte_order, 3).itemsize for e in elements)
    if header.num_bytes + promised != file_size:
        return None
    try:
        data = PlyData.read(str(header.path), known_list_len={"face": {wanted.name: 3}} if wanted else {})
    except PlyParseError:   # a list that is not three long: the patient reader below takes the file
        return None
    polygons = None
    if wanted and with_faces:
        indices = data["face"].data[wanted.name].astype(np.int64)
        polygons = indices.reshape(-1), np.full(len(indices), 3)
    return Body(_native(data["vertex"].data), polygons)


def read_binary(header: Header, file_size: int) -> Body:
    """Read any binary body row by row where rows differ in length, else element by element."""
    with header.path.open("rb") as file:
        file.seek(header.num_bytes)
        data = file.read()
    body, offset = Body({}), 0
    for element in header.elements:
        if not element.has_lists:
            table, offset = _read_table(header, element, data, offset)
        else:
            table, starts, lengths, offset = _read_lists(header, element, data, offset)
            wanted = index_list(element)
            if element.name == "face" and wanted:
                body.polygons = _gather(data, starts, lengths, header.byte_order + wanted.type), lengths
        if element.name == "vertex":
            body.vertices = _native(table)
    if data[offset:].strip(b"\0\r\n\t "):
        raise FormatError(explain("there is more data than the header promises", where=header.path,
                                  got=f"{len(data) - offset} bytes after the last row", expected="the end of the file",
                                  do="The header's counts or types are wrong; export the file again."))
    return body


def _native(table: NDArray[Any]) -> dict[str, NDArray[Any]]:
    names = [name for name in table.dtype.names or () if table.dtype[name].shape == ()]
    return {name: np.ascontiguousarray(table[name], dtype=table.dtype[name].newbyteorder("=")) for name in names}


def _read_table(header: Header, element: Element, data: bytes, offset: int) -> tuple[NDArray[Any], int]:
    dtype = element.dtype(header.byte_order)
    if not element.count:
        return np.empty(0, dtype), offset
    complete = (len(data) - offset) // dtype.itemsize
    if complete < element.count:
        raise fail(header, element, complete, "the file ends inside its data", f"{complete} rows", f"{element.count} rows")
    return np.frombuffer(data, dtype, element.count, offset), offset + element.count * dtype.itemsize


def _read_lists(header: Header, element: Element, data: bytes,
                offset: int) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64], int]:
    """Walk rows that hold lists; return the scalar columns, where the wanted list of each row starts, its length, the end."""
    wanted = index_list(element)
    steps = [(p, p is wanted, struct.Struct(_struct_code(header, p.count_type or p.type)), np.dtype(p.type).itemsize)
             for p in element.properties]
    starts, lengths, scalars = [], [], []
    for row in range(element.count):
        for prop, is_wanted, code, size in steps:
            if offset + code.size > len(data):
                raise fail(header, element, row, "the file ends inside its data", f"{row} whole rows", f"{element.count} rows")
            value = code.unpack_from(data, offset)[0]
            offset += code.size
            if not prop.count_type:
                scalars.append(value)
                continue
            if value < 0 or value * size > len(data) - offset:
                raise fail(header, element, row, f"list {prop.name!r} has an impossible length", value,
                           f"0 to {(len(data) - offset) // size}, what is left of the file")
            if is_wanted:
                starts.append(offset)
                lengths.append(value)
            offset += value * size
    return _scalar_table(element, scalars), np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64), offset


def _struct_code(header: Header, type_: str) -> str:
    code = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}[type_]
    return header.byte_order + code


def _scalar_table(element: Element, values: list[float]) -> NDArray[Any]:
    dtype = np.dtype([(p.name, p.type) for p in element.properties if not p.count_type])
    table = np.empty(element.count, dtype)
    for i, name in enumerate(dtype.names or ()):
        table[name] = values[i::len(dtype.names or ())]
    return table


def _gather(data: bytes, starts: NDArray[np.int64], lengths: NDArray[np.int64], dtype: str) -> NDArray[np.int64]:
    """Collect the values of lists scattered through ``data`` into one flat array."""
    size = np.dtype(dtype).itemsize
    bytes_each = lengths * size
    total = int(bytes_each.sum())
    ends = np.cumsum(bytes_each)
    position = np.arange(total) - np.repeat(ends - bytes_each, bytes_each) + np.repeat(starts, bytes_each)
    return np.frombuffer(data, np.uint8)[position].view(dtype).astype(np.int64)


def fan_triangles(indices: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut polygons into triangle fans (T, 3) around their first corner, in order; fewer than three corners give none."""
    first = np.cumsum(lengths) - lengths
    num_triangles = np.maximum(lengths - 2, 0)
    corner = np.repeat(first, num_triangles)
    step = np.arange(len(corner)) - np.repeat(np.cumsum(num_triangles) - num_triangles, num_triangles)
    return np.stack([indices[corner], indices[corner + step + 1], indices[corner + step + 2]], axis=1)
