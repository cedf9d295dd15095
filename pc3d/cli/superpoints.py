"""``pc3d superpoints``: partition a scan into small surfaces."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import result_in, status

if TYPE_CHECKING:
    from pc3d.structures import PointCloud

EXAMPLES = """
pc3d superpoints room.ply -o room_superpoints.ply
pc3d superpoints cloud.laz -o cloud.ply --paint
pc3d superpoints scene0000_00_vh_clean_2.ply -o scene.ply --exact
"""


def superpoints(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Scan, as a mesh or as bare points.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The same scan with a superpoint column.")],
    *,
    paint: Annotated[bool, typer.Option("--paint", help="Colour each superpoint instead of the scan's own colours.")] = False,
    exact: Annotated[bool, typer.Option("--exact", help="Of a mesh: as ScanNet's own program, ties included.")] = False,
    k_threshold: Annotated[float, typer.Option(min=0, help="How rough a superpoint may be.")] = 0.01,
    min_size: Annotated[int, typer.Option(min=1, help="Fewest points of a superpoint.")] = 20,
) -> PointCloud:
    """Partition a scan into superpoints: a mesh by its vertex normals, a bare cloud by normals of its neighbourhoods."""
    from pc3d import io
    from pc3d.superpoints import SuperpointSettings, compute_superpoints

    with result_in(output, io.WRITERS):
        cloud = io.read(scan)
        start = time.perf_counter()
        with status(f"partitioning {len(cloud):,} points"):
            cloud = compute_superpoints(cloud.replace(superpoints=None), SuperpointSettings(k_threshold, min_size, exact))
        seconds = time.perf_counter() - start
        assert cloud.superpoints is not None
        count = int(cloud.superpoints.max()) + 1
        io.write(_painted(cloud, count) if paint else cloud, output)
    print(f"{len(cloud):,} points in {count:,} superpoints ({len(cloud) / count:.0f} points each), {seconds:.2f} s")
    print(f"wrote {output}")
    return cloud


def _painted(cloud: PointCloud, count: int) -> PointCloud:
    import numpy as np

    colors = np.random.default_rng(0).integers(40, 235, (count, 3), dtype=np.uint8)
    return cloud.replace(rgb=colors[cloud.superpoints])
