"""The room of ``pc3d demo``: ``python -m pc3d.synth.demo OUTPUT.ply`` makes it again."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from pc3d import io
from pc3d.structures import PointCloud
from pc3d.synth.furniture import Stock
from pc3d.synth.rooms import make_room
from pc3d.synth.scanner import ScannerConfig, scan_room

#: Far from the seeds of any data set; drawn with the furniture of the validation split.
ROOM_SEED = 20159
SCAN_SEED = 1


def make_demo_room() -> PointCloud:
    """Make and scan one small furnished living room that no split holds.

    A whole scan, at larger voxels than in a data set to keep it near 4 MB; normals and superpoints are left for the demo to
    compute.
    """
    room = make_room(np.random.default_rng([ROOM_SEED, 1]), kind="living", stock=Stock(validation=True))
    config = ScannerConfig(voxel_size=0.035, partial=0)
    return scan_room(room, np.random.default_rng(SCAN_SEED), config).replace(normals=None)


def write_demo_room(path: str | Path) -> PointCloud:
    """Write the demo room as binary ply and return it."""
    room = make_demo_room()
    io.write(room, path)
    return room


if __name__ == "__main__":
    print(write_demo_room(sys.argv[1]))
