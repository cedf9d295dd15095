"""The tables that come with pc3d: ``datasets/<name>/classes.tsv`` and split lists."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FileError, FormatError, explain

_PACKAGE = Path(__file__).resolve().parents[1]
#: In a checkout beside the package, in an installed wheel inside it.
DATASETS = _PACKAGE / "datasets" if (_PACKAGE / "datasets").is_dir() else _PACKAGE.parent / "datasets"


def read_table(path: Path, columns: Sequence[str], separator: str = "\t") -> list[dict[str, str]]:
    """Rows of a table with a header, stripped, by column. Raises FileError, or FormatError when a column is missing."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            options: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if separator == "\t" else {}
            rows = list(csv.DictReader(file, delimiter=separator, **options))
    except OSError as error:
        raise FileError(explain("the table cannot be read", where=path, got=error.strerror)) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(explain("the table is not text in columns", where=path, got=str(error))) from error
    table = []
    for row, entry in enumerate(rows, 2):
        if any(entry.get(name) is None for name in columns):
            raise FormatError(explain("the row or the header lacks a column", where=f"{path}:{row}",
                                      expected=", ".join(columns)))
        table.append({name: entry[name].strip() for name in columns})
    return table


def read_split(path: Path) -> list[str]:
    """Scene names of a split list, one a line. Raises FileError, or FormatError for a name that is no plain name."""
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(explain("the split list cannot be read", where=path, got=error)) from error
    for row, name in enumerate(names, 1):
        if not name.replace("_", "").isalnum():
            raise FormatError(explain("this is no name of a scene", where=f"{path}:{row}", got=repr(name[:40])))
    return names


def read_names(path: Path) -> list[str]:
    """The lines of a list that are not empty, stripped. Raises FormatError."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(explain("the list is not text", where=path, got=error)) from error


def read_numbers(path: Path) -> NDArray[np.int64]:
    """Whole numbers (N,) of a text file, one a line; none of an empty one. Raises FormatError."""
    try:
        return np.array(path.read_text(encoding="utf-8").split(), dtype=np.int64)
    except (OSError, ValueError, OverflowError) as error:
        raise FormatError(explain("the file is no list of whole numbers", where=path, got=error)) from error


def find_first(places: Sequence[Path], name: str) -> Path | None:
    """The first of some folders that holds a file of this name, with the name."""
    return next((place / name for place in places if (place / name).is_file()), None)
