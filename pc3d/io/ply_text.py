"""The body of an ascii PLY file: one row a line, checked number by number only when something is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FileError, FormatError, explain
from pc3d.io.ply_body import Body, fail, index_list
from pc3d.io.ply_header import Element, Header, Property


def read_text(header: Header) -> Body:
    """Read an ascii body; FormatError names element, row and property of what does not fit."""
    with header.path.open("rb") as file:
        file.seek(header.num_bytes)
        data = file.read()
    if not data.isascii():
        raise FormatError(explain("an ascii PLY holds bytes that are no text", where=header.path,
                                  do="The header's format line is probably wrong: binary_little_endian?"))
    lines = [line for line in data.decode("ascii").splitlines() if line and not line.isspace()]
    body, start = Body({}), 0
    for element in header.elements:
        rows = lines[start:start + element.count]
        if len(rows) < element.count:
            raise fail(header, element, len(rows), "the file ends inside its data", f"{len(rows)} rows",
                       f"{element.count} rows")
        _read_element(header, element, rows, body)
        start += element.count
    if start < len(lines):
        raise FormatError(explain("there is more data than the header promises", where=header.path,
                                  got=f"{len(lines) - start} lines after the last row", expected="the end of the file",
                                  do="The header's counts are wrong; export the file again."))
    return body


def _read_element(header: Header, element: Element, rows: list[str], body: Body) -> None:
    if element.name == "vertex" and not element.has_lists:
        body.vertices = _read_table(header, element, rows)
    elif element.name in ("vertex", "face"):
        columns, indices, lengths = _read_rows(header, element, rows)
        if element.name == "vertex":
            body.vertices = columns
        elif index_list(element):
            body.polygons = indices, lengths


def _read_table(header: Header, element: Element, rows: list[str]) -> dict[str, NDArray[Any]]:
    width = len(element.properties)
    try:
        table = np.loadtxt(rows, dtype=np.float64, comments=None, ndmin=2)
        if table.shape != (element.count, width):
            raise ValueError(f"{table.shape[1]} values a row")
    except ValueError as error:
        _read_rows(header, element, rows)   # finds the row and says what is wrong with it
        raise FileError(explain("the vertices cannot be read", where=header.path, got=str(error))) from error
    return {p.name: _cast(header, element, p, table[:, i]) for i, p in enumerate(element.properties)}


def _cast(header: Header, element: Element, prop: Property, values: NDArray[np.float64]) -> NDArray[Any]:
    dtype = np.dtype(prop.type)
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(dtype)
    limits = np.iinfo(dtype)
    fits = (values >= limits.min) & (values <= limits.max) & (values == np.rint(values))
    if not fits.all():
        row = int(np.argmin(fits))
        raise fail(header, element, row, f"property {prop.name!r} does not fit its type", f"{values[row]:g}",
                   f"a whole number in [{limits.min}, {limits.max}]")
    return values.astype(dtype)


def _read_rows(header: Header, element: Element,
               rows: list[str]) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], NDArray[np.int64]]:
    """Read rows that may hold lists; return the scalar columns, and the wanted lists with their lengths."""
    wanted = index_list(element)
    scalars: dict[str, list[float]] = {p.name: [] for p in element.properties if not p.count_type}
    indices: list[int] = []
    lengths: list[int] = []
    for row, line in enumerate(rows):
        words, at = line.split(), 0
        for prop in element.properties:
            if at >= len(words):
                raise fail(header, element, row, f"the row ends before property {prop.name!r}", repr(line[:60]))
            if not prop.count_type:
                scalars[prop.name].append(_number(header, element, row, prop, words[at]))
                at += 1
                continue
            length = int(_whole(header, element, row, prop, words[at]))
            if not 0 <= length <= len(words) - at - 1:
                raise fail(header, element, row, f"list {prop.name!r} has an impossible length", length,
                           f"0 to {len(words) - at - 1}, what is left of the row")
            if prop is wanted:
                indices.extend(int(_whole(header, element, row, prop, word)) for word in words[at + 1:at + 1 + length])
                lengths.append(length)
            at += 1 + length
        if at < len(words):
            raise fail(header, element, row, "the row is too long", f"{len(words)} values", f"{at} values")
    table = {p.name: _cast(header, element, p, np.array(scalars[p.name])) for p in element.properties if not p.count_type}
    return table, np.array(indices, dtype=np.int64), np.array(lengths, dtype=np.int64)


def _number(header: Header, element: Element, row: int, prop: Property, word: str) -> float:
    try:
        return float(word.replace("_", "?"))    # float() would take 1_000
    except ValueError:
        raise fail(header, element, row, f"property {prop.name!r} is not a number", repr(word[:40]), "a number") from None


def _whole(header: Header, element: Element, row: int, prop: Property, word: str) -> float:
    value = _number(header, element, row, prop, word)
    if not (abs(value) < 2**53 and value == int(value)):
        raise fail(header, element, row, f"property {prop.name!r} is not a whole number", repr(word[:40]), "a whole number")
    return value
