"""The room of ``pc3d demo`` and images of it: ``python -m pc3d.synth.demo OUTPUT.ply`` makes both again."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pc3d import io
from pc3d.io.files import atomic_file
from pc3d.lift import FrameMasks
from pc3d.lift.segmenters import GivenMasks
from pc3d.structures import Camera, Frame, PointCloud
from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.furniture import Stock
from pc3d.synth.mask_noise import MaskNoise, noisy_masks
from pc3d.synth.rooms import make_room
from pc3d.synth.scanner import ScannerConfig, View, scan_views

#: Far from the seeds of any data set; drawn with the furniture of the validation split.
ROOM_SEED = 20159
SCAN_SEED = 1
MASK_SEED = 0
#: Images that are kept, evenly spread.
IMAGES = 16
#: Beside the room.
FRAMES = "demo_frames.npz"


def make_demo_room() -> tuple[PointCloud, list[View]]:
    """Make and scan one small furnished living room that no split holds.

    A whole scan, at larger voxels than in a data set to keep it near 4 MB; normals and superpoints are left for the demo to
    compute.
    """
    room = make_room(np.random.default_rng([ROOM_SEED, 1]), kind="living", stock=Stock(validation=True))
    config = ScannerConfig(voxel_size=0.035, partial=0)
    mesh, views = scan_views(room, np.random.default_rng(SCAN_SEED), config)
    return mesh.replace(normals=None), views


def write_demo_room(path: str | Path) -> PointCloud:
    """Write the demo room as binary ply, and some images of it beside, and return the room."""
    room, views = make_demo_room()
    io.write(room, path)
    write_demo_frames(Path(path).with_name(FRAMES), views[::len(views) // IMAGES])
    return room


def write_demo_frames(path: Path, views: list[View]) -> None:
    """Write images and their masks, broken by the noise model, into one file that needs no image library."""
    rng = np.random.default_rng(MASK_SEED)
    masks = [noisy_masks(view.instances, view.labels, SCANNET_CLASSES, MaskNoise(), rng) for view in views]
    frames = [view.frame for view in views]
    columns: dict[str, Any] = {
        "rgb": np.stack([frame.rgb for frame in frames]),
        "depth_mm": np.stack([np.rint(frame.depth * 1000).astype(np.uint16) for frame in frames]),
        "T_world_camera": np.stack([frame.T_world_camera for frame in frames]), "matrix": frames[0].camera.matrix,
        "ids": np.concatenate([one.ids for one in masks]), "num_masks": np.array([len(one) for one in masks]),
        "scores": np.concatenate([one.scores for one in masks]), "labels": np.concatenate([one.labels for one in masks])}
    with atomic_file(path) as file:
        np.savez_compressed(file, **columns)


def read_demo_frames(path: Path) -> tuple[list[Frame], GivenMasks]:
    """Read what ``write_demo_frames`` wrote: the frames, and a segmenter that has their masks."""
    with np.load(path, allow_pickle=False) as data:
        rgb, depth_mm, poses, matrix, ids = (data[name] for name in ("rgb", "depth_mm", "T_world_camera", "matrix", "ids"))
        ends = np.cumsum(data["num_masks"])
        scores, labels = (np.split(data[name], ends[:-1]) for name in ("scores", "labels"))
    (height, width), names = rgb.shape[1:3], [f"{row:04d}" for row in range(len(rgb))]
    camera = Camera(width, height, matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
    depth = depth_mm / np.float32(1000)
    frames = [Frame(name, camera, camera, pose, partial(rgb.__getitem__, row), partial(depth.__getitem__, row))
              for row, (name, pose) in enumerate(zip(names, poses))]
    return frames, GivenMasks({name: FrameMasks(ids[row:row + 1], scores[row], labels[row], SCANNET_CLASSES)
                               for row, name in enumerate(names)})


if __name__ == "__main__":
    print(write_demo_room(sys.argv[1]))
