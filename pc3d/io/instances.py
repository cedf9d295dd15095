"""Instances alone in one NPZ archive, written whole or not at all and read without trust."""

from __future__ import annotations

from pathlib import Path

from pc3d.errors import FormatError, explain
from pc3d.io.npz import read_arrays, write_arrays
from pc3d.structures import Instances


def write_instances(instances: Instances, path: str | Path) -> None:
    """Write instances into an ``.npz``, with ``point_instance`` and ``point_label`` (N,) for other programs.

    Raises DataError for evidence that is no numbers or text, FileError when the file cannot be written.
    """
    point_instance, point_label = instances.to_labels()
    write_arrays({"point_instance": point_instance, "point_label": point_label, **instances.to_arrays()}, Path(path))


def read_instances(path: str | Path) -> Instances:
    """Read what ``write_instances`` wrote; raises FileError (missing) or FormatError (anything else)."""
    path = Path(path)
    arrays = read_arrays(path)
    try:
        return Instances.from_arrays(arrays)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise FormatError(explain("these are no instances written by pc3d", where=path,
                                  got=f"{type(error).__name__}: {error}"[:300], do="Run pc3d segment again.")) from error
