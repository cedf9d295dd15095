"""Synthetic rooms in the raw layouts of the real data sets, so that their readers can be tried without a licence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.io.files import atomic_file
from pc3d.structures import PointCloud

#: What surface_kinds gives for points without an object.
OBJECT, WALL, FLOOR, CEILING, NOTHING = 0, 1, 2, 3, 4


def surface_kinds(cloud: PointCloud) -> NDArray[np.int64]:
    """OBJECT where a point has a label; elsewhere WALL, FLOOR or CEILING by its normal and height, or NOTHING (clutter).

    Raises DataError for a cloud without labels, instances or normals.
    """
    if cloud.labels is None or cloud.instances is None or cloud.normals is None:
        raise DataError(explain("only a cloud with labels, instances and normals can be exported", got=repr(cloud)))
    height, up = cloud.xyz[:, 2], cloud.normals[:, 2]
    low, high = np.percentile(height, [1, 99]) if len(cloud) else (0, 0)
    kinds = np.full(len(cloud), NOTHING, dtype=np.int64)
    kinds[np.abs(up) < 0.3] = WALL
    kinds[(up > 0.7) & (height < low + 0.2)] = FLOOR
    kinds[(up < -0.7) & (height > high - 0.2)] = CEILING
    kinds[cloud.labels >= 0] = OBJECT
    return kinds


@contextmanager
def appearing_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when the block ends well and disappears when it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, whole or not at all."""
    with atomic_file(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def add_to_list(path: Path, names: Iterable[str]) -> None:
    """Add names to a split list; those that are there stay."""
    earlier = path.read_text(encoding="utf-8").split() if path.is_file() else []
    write_lines(path, sorted({*earlier, *names}))


def write_json(path: Path, value: Any) -> None:
    """Write json, whole or not at all."""
    with atomic_file(path) as file:
        file.write(json.dumps(value).encode())
