"""Tables without column names (NPY arrays, text files without a header): what each column is, judged by its values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.io.columns import AXES, COLOURS, NORMALS, Columns


def name_columns(table: NDArray[Any]) -> Columns:
    """Name the columns of a table (N, C): x y z, then triples of colours (whole numbers in [0, 255]) or normals (unit length).

    A single column before a colour triple is intensity, as in PTS files. Six columns whose last three are fractions of 1 are
    x y z r g b, as in Open3D's xyzrgb files. Columns that fit nothing are called column_<index>.
    """
    columns = {axis: np.ascontiguousarray(table[:, i]) for i, axis in enumerate(AXES)}
    at, width = 3, table.shape[1]
    while at < width:
        triple = table[:, at:at + 3] if at + 3 <= width else None
        if triple is not None and "red" not in columns and _looks_like_colour(triple):
            names: tuple[str, ...] = COLOURS[0]
        elif triple is not None and "nx" not in columns and _looks_like_normals(triple):
            names = NORMALS[0]
        elif triple is not None and width == 6 and _looks_like_fractions(triple):
            names = COLOURS[0]
        elif at == 3 and width == 7 and _looks_like_colour(table[:, 4:7]):
            names = ("intensity",)
        else:
            names = (f"column_{at}",)
        narrow = names == COLOURS[0] and _looks_like_colour(table[:, at:at + 3])
        for i, name in enumerate(names, at):
            columns[name] = np.ascontiguousarray(table[:, i], dtype=np.uint8 if narrow else None)
        at += len(names)
    return columns


def _looks_like_colour(values: NDArray[Any]) -> bool:
    """Whole bytes. A table of nothing but 0 and 1 is more likely flags than a black room."""
    whole = np.isfinite(values).all() and (values == np.rint(values)).all()
    return bool(whole and values.min() >= 0 and 1 < values.max() <= 255)


def _looks_like_fractions(values: NDArray[Any]) -> bool:
    """Numbers from 0 to 1, not all of them whole."""
    return bool((values >= 0).all() and (values <= 1).all() and (values != np.rint(values)).any())


def _looks_like_normals(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all() and (np.abs(np.linalg.norm(values.astype(np.float64), axis=1) - 1) < 1e-2).all())
