"""XYZ and TXT: a point a line, separated by blanks, commas, semicolons or tabs, with or without a line of column names."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, FormatError, explain
from pc3d.io.bare_columns import name_columns
from pc3d.io.columns import AXES, COLOURS, RESERVED, Columns, cloud_from_columns, columns_from_cloud
from pc3d.io.files import atomic_file, check_file
from pc3d.io.text_rows import format_rows
from pc3d.structures import PointCloud

_COMMENT = re.compile(r"\s*(#|//)+")
_SEPARATOR = re.compile(r"[,;\s]+")
_SHORT = {"r": "red", "g": "green", "b": "blue", "i": "intensity"}


def read_xyz(path: Path) -> PointCloud:
    """Read a text file of points; a first line of column names is used when there is one, else columns are judged by value."""
    lines, first_line, names = _read_lines(path)
    table = _parse(path, lines, first_line)
    if len(table) == 0:
        raise FormatError(explain("the file holds no points", where=path, expected="lines of x y z"))
    if table.shape[1] < 3:
        raise FormatError(explain("a point needs three numbers", where=f"{path}:{first_line}", got=f"{table.shape[1]} columns",
                                  expected="x y z and more"))
    columns = name_columns(table) if names is None else _named(path, names, table)
    return cloud_from_columns(columns, source=path)


def write_xyz(cloud: PointCloud, path: Path) -> None:
    """Write a text file with a line of column names (``# x y z red ...``) and exact digits; faces are left out.

    Raises DataError for a column of no numbers, or one that would be read back under the name of another.
    """
    columns = columns_from_cloud(cloud, where=path)
    if cloud.faces is not None:
        warnings.warn(f"{path}: faces are left out, a text file has no place for them", stacklevel=3)
    titles = [_title(name, values, path) for name, values in columns.items()]
    if len(set(titles)) < len(titles):
        twice = next(title for title in titles if titles.count(title) > 1)
        raise DataError(explain(f"two columns would be called {twice!r}", where=path, do="Rename an attribute."))
    with atomic_file(path) as file:
        file.write(f"# {' '.join(titles)}\n{format_rows(list(columns.values()))}".encode())


def _title(name: str, values: NDArray[Any], path: Path) -> str:
    """A column's name without separators."""
    title = "_".join(_SEPARATOR.split(name.strip()))
    if values.dtype.kind not in "biuf":
        raise DataError(explain(f"attribute {name!r} is no column of numbers", where=path, got=values.dtype))
    if not title or _canonical(title) != title:
        raise DataError(explain(f"attribute {name!r} would be read as {_canonical(title)!r}", where=path,
                                do="Rename the attribute."))
    return title


def _read_lines(path: Path) -> tuple[list[str], int, list[str] | None]:
    """Return the lines with numbers, the number of the first one, and the column names if the file has them."""
    check_file(path)
    data = path.read_bytes()
    if b"\0" in data[:65536]:
        raise FormatError(explain("this is not a text file", where=path, got="zero bytes in it",
                                  do="Check that the file's suffix tells its true format."))
    lines = data.decode("utf-8-sig", errors="replace").splitlines()
    names, at = None, 0
    while at < len(lines):
        comment = _COMMENT.match(lines[at])
        words = _words(lines[at][comment.end():] if comment else lines[at])
        if words and not comment and _is_number(words[0]):
            break
        if words and words[0].lower() == "x":
            names = words
        elif words and not comment:
            raise FormatError(explain("this line is neither numbers nor column names", where=f"{path}:{at + 1}",
                                      got=repr(lines[at][:60]), expected="x y z ..., or a line of names such as 'x y z r g b'"))
        at += 1
    if at < len(lines) and len(_words(lines[at])) == 1 and at + 1 < len(lines):
        at = _skip_count(path, lines, at)
    return lines[at:], at + 1, names


def _skip_count(path: Path, lines: list[str], at: int) -> int:
    """PTS files start with the number of points: check it, and start behind it."""
    promised, there = lines[at].strip(), sum(1 for line in lines[at + 1:] if line.strip())
    if promised != str(there):
        raise FormatError(explain("the first line does not give the number of points", where=f"{path}:{at + 1}",
                                  got=promised[:40], expected=f"{there}, or a point"))
    return at + 1


def _words(line: str) -> list[str]:
    return [word for word in _SEPARATOR.split(line.strip()) if word]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word


def _parse(path: Path, lines: list[str], first_line: int) -> NDArray[np.float64]:
    """Parse the rows at once; only when that fails look for the line to blame."""
    if not any(line.strip() for line in lines):
        return np.empty((0, 3))
    separator = next((s for s in ",;" if s in lines[0]), None)
    try:
        rows = [line.replace(separator, " ") for line in lines] if separator else lines
        return np.loadtxt(rows, dtype=np.float64, comments=None, ndmin=2)
    except ValueError as error:
        width = len(_words(lines[0]))
        for number, line in enumerate(lines, start=first_line):
            words = _words(line)
            if words and len(words) != width:
                raise FormatError(explain("the row has another number of columns than the first", where=f"{path}:{number}",
                                          got=f"{len(words)} ({line[:60]!r})", expected=width)) from error
            bad = next((word for word in words if not _is_number(word)), None)
            if bad is not None:
                raise FormatError(explain("this is not a number", where=f"{path}:{number}", got=repr(bad[:40]))) from error
        raise FormatError(explain("the rows cannot be read", where=path, got=str(error))) from error


def _named(path: Path, titles: list[str], table: NDArray[np.float64]) -> Columns:
    if len(titles) != table.shape[1]:
        raise FormatError(explain("the line of names does not fit the rows", where=path,
                                  got=f"{len(titles)} names, {table.shape[1]} columns"))
    columns: Columns = {}
    for i, title in enumerate(titles):
        name = _canonical(title)
        if name in columns:
            raise FormatError(explain(f"column {name!r} is there twice", where=path, got=" ".join(titles)[:80]))
        columns[name] = _byte_or_float(table[:, i]) if name in COLOURS[0] else np.ascontiguousarray(table[:, i])
    missing = [axis for axis in AXES if axis not in columns]
    if missing:
        raise FormatError(explain(f"points have no {', '.join(missing)}", where=path, got=" ".join(titles)[:80]))
    return columns


def _canonical(name: str) -> str:
    lower = name.lower()
    return _SHORT.get(lower, lower if lower in RESERVED else name)


def _byte_or_float(values: NDArray[np.float64]) -> NDArray[Any]:
    """Whole numbers up to 255 are bytes, 0 and 1 too: text does not say whether 1 is full or almost no colour."""
    is_byte = (values >= 0) & (values <= 255) & (values == np.rint(values))
    return values.astype(np.uint8) if is_byte.all() else np.ascontiguousarray(values)
