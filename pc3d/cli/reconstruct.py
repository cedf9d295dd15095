"""``pc3d reconstruct``: posed RGB-D frames to a mesh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import in_shell, result_in, status

if TYPE_CHECKING:
    from pc3d.structures import PointCloud

EXAMPLES = """
pc3d reconstruct frames/ -o mesh.ply
pc3d reconstruct frames/ -o mesh.ply --voxel-size 0.01 --depth-max 3
pc3d reconstruct frames/ -o mesh.ply && pc3d segment mesh.ply -o out
"""


def reconstruct(
    frames: Annotated[Path, typer.Argument(metavar="FRAMES", help="Folder or file of posed images with depth.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Mesh to write.")],
    *,
    voxel_size: Annotated[float, typer.Option(min=0.001, help="Metres.")] = 0.02,
    depth_max: Annotated[float, typer.Option(min=0.1, help="Metres; farther depth is left out.")] = 4.5,
    layout: Annotated[str, typer.Option(help="Layout of the frames: auto, or its name (docs/formats.md).")] = "auto",
    align: Annotated[bool, typer.Option(help="Turn the mesh so that z is up and the floor lies at 0.")] = True,
) -> PointCloud:
    """Fuse posed RGB-D frames into one coloured mesh."""
    from pc3d import io
    from pc3d import reconstruct as room

    with result_in(output, io.WRITERS):
        mesh = room.reconstruct(frames, voxel_size, depth_max=depth_max, align=align, layout=layout)
        with status("writing"):
            io.write(mesh, output)
    faces = 0 if mesh.faces is None else len(mesh.faces)
    print(f"wrote {output}: {len(mesh):,} vertices, {faces:,} triangles; next: pc3d segment {in_shell(output)} -o out")
    return mesh
