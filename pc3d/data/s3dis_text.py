"""Text files of S3DIS: six numbers a line, with the few broken lines of the release mended by rule and reported."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FormatError, explain
from pc3d.io.files import check_file

NUM_COLUMNS = 6  # x y z red green blue
MAX_DROPPED = 0.01  # share of the lines that may be beyond repair
_STRAY = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\uffff]+")


def read_points(path: Path) -> tuple[NDArray[np.float64], list[str]]:
    """Rows (N, 6) of x y z (metres) and r g b (0..255), and a note for every line that was not as it should be.

    The rule: a stray character (NUL, control, not ascii) stands for a separator when that leaves six numbers, else for a
    lost digit, read as 0; a line that is still not six finite numbers with colours in 0..255 is dropped.
    Raises FileError, or FormatError when more than 1 % of the lines are dropped, none is left, or the file ends in a line
    that is cut off.
    """
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "no data" is a warning
            rows = np.loadtxt(path, comments=None, ndmin=2, encoding="latin-1")
        if rows.shape[1] == NUM_COLUMNS and np.isfinite(rows).all() and rows[:, 3:].min() >= 0 and rows[:, 3:].max() <= 255:
            return rows, []
    except (ValueError, UserWarning):
        pass
    return _read_line_by_line(path)


def _read_line_by_line(path: Path) -> tuple[NDArray[np.float64], list[str]]:
    rows, notes, dropped = [], [], 0
    lines = path.read_bytes().decode("latin-1").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row, remedy = _mend(line)
        if row is None:
            dropped += 1
        else:
            rows.append(row)
        if remedy:
            notes.append(f"{path.parent.name}/{path.name}:{number}: {remedy}: {line.strip()[:60]!r}")
    if rows and lines[-1].strip() and _mend(lines[-1])[0] is None:
        raise FormatError(explain("the file is cut off", where=f"{path}:{len(lines)}", got=repr(lines[-1][:60]),
                                  expected="a last line of six numbers", do="Copy it again."))
    if not rows or dropped > MAX_DROPPED * (len(rows) + dropped):
        raise FormatError(explain(f"{dropped} of {len(rows) + dropped} lines are no points", where=path,
                                  got=notes[0] if notes else "no lines", expected="lines of x y z r g b"))
    return np.array(rows), notes


def _mend(line: str) -> tuple[list[float] | None, str | None]:
    """The six numbers of a line and what had to be done for them."""
    readings = ((line, None), (_STRAY.sub(" ", line), "stray character read as a separator"),
                (_STRAY.sub("0", line), "stray character read as a lost digit"))
    for text, remedy in readings:
        row = _numbers(text)
        if row is not None:
            return row, remedy
    return None, "line dropped"


def _numbers(text: str) -> list[float] | None:
    try:
        row = [float(word) for word in text.split()]
    except ValueError:
        return None
    good = len(row) == NUM_COLUMNS and all(map(math.isfinite, row)) and all(0 <= color <= 255 for color in row[3:])
    return row if good else None
