"""``pc3d view``: look at a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pc3d.cli.console import result_in, size_of, status

EXAMPLES = """
pc3d view out
pc3d view out --png picture.png
pc3d view room.ply --png scan.png
"""


def view(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="Folder written by pc3d segment, or a scan file.")],
    *,
    png: Annotated[Path | None, typer.Option(help="Draw into this file instead of opening a window; needs no display.")] = None,
) -> None:
    """Look at scan, instances, classes and truth in a window (keys 1 to 4), or draw them into a picture."""
    from pc3d import viz

    if png is None:
        viz.view(result)
        return
    with result_in(png, (".png",)), status(f"drawing {result}"):
        viz.view(result, png)
    print(f"wrote {size_of(png)}")
