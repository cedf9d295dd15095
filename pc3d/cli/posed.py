"""Posed images as the command line names them: a layout, a convention and an alignment to the scan."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pc3d.structures import Frame, PointCloud


def posed_frames(path: Path, cloud: PointCloud, scan: Path, *, layout: str, convention: str, alignment: str,
                 every: int) -> tuple[list[Frame], dict[str, str]]:
    """Every n-th frame of a folder or file in the coordinates of a scan read from ``scan``, and why others were left out."""
    from pc3d import io
    from pc3d.lift import conventions

    transform = conventions.resolve_alignment(alignment, conventions.find_alignments(cloud, scan))
    reading = conventions.Convention.parse(convention)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)    # the summary says what was skipped
        found = io.read_frames(path, layout)
    return [reading.apply(frame, transform) for frame in found[::every]], found.skipped
