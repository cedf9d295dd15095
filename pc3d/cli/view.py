"""``pc3d view``: look at a result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pc3d.cli.console import size_of, status

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
    if png is None:
        from pc3d.viz import view as open_window

        open_window(result)
        return
    with status(f"drawing {result}"):
        draw_result(result, png)
    print(f"wrote {size_of(png)}")


def draw_result(result: Path, png: Path) -> None:
    """Draw a result folder (scan, instances, and truth when the scan has one) or a scan file side by side."""
    from pc3d import io, viz

    if result.is_dir():
        cloud, instances = io.read_result(result)
        viz.write_png(png, viz.draw_panels(cloud, instances))
    else:
        viz.write_png(png, viz.draw_scan(io.read(result)))
