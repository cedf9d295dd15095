"""Posed images, with or without depth, from the layouts they come in; ``read_frames`` knows which is which."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pc3d.errors import ConfigError, FileError, FormatError, explain
from pc3d.io.frames.colmap import find_colmap, read_colmap
from pc3d.io.frames.folder import is_folder_layout, read_folder
from pc3d.io.frames.nerfstudio import find_list, read_list, read_nerfstudio
from pc3d.io.frames.scannetpp import find_scannetpp, read_scannetpp
from pc3d.io.frames.sens import find_sens, read_sens, write_sens
from pc3d.io.frames.sequences import (
    is_arkit,
    is_open3d,
    is_replica,
    is_tum,
    read_arkit,
    read_open3d,
    read_replica,
    read_tum,
)
from pc3d.io.frames.source import Frames, count_reasons

__all__ = ["LAYOUTS", "Frames", "count_reasons", "read_frames", "write_sens"]


class Layout(NamedTuple):
    """How posed images lie on disk."""

    recognise: Callable[[Path], object]   # truthy where a path looks like it
    read: Callable[[Path], Frames]
    signs: str                            # what it is recognised by


#: Tried in this order: what names itself first, folders of images last.
LAYOUTS: dict[str, Layout] = {
    "json": Layout(lambda path: find_list(path, "frames.json"), read_list, "frames.json"),
    "sens": Layout(find_sens, read_sens, "a .sens file"),
    "nerfstudio": Layout(lambda path: find_list(path, "transforms.json"), read_nerfstudio, "transforms.json"),
    "scannet++": Layout(find_scannetpp, read_scannetpp, "iphone/pose_intrinsic_imu.json"),
    "arkitscenes": Layout(is_arkit, read_arkit, "lowres_wide.traj"),
    "replica": Layout(is_replica, read_replica, "results/ and traj.txt"),
    "tum": Layout(is_tum, read_tum, "rgb.txt and groundtruth.txt"),
    "open3d": Layout(is_open3d, read_open3d, "color/ and trajectory.log or .json"),
    "folder": Layout(is_folder_layout, read_folder, "color/, depth/ and poses.txt or pose/"),
    "colmap": Layout(find_colmap, read_colmap, "cameras.bin and images.bin, or .txt, also in sparse/0"),
}


def read_frames(path: str | Path, layout: str = "auto") -> Frames:
    """Read posed images in the order of their names or times; images are opened when asked for.

    Poses become camera-to-world with OpenCV axes and metres, whatever the layout says. Frames without image, intrinsics or
    a rigid pose are left out with a warning and listed in ``skipped``. Raises FileError, FormatError, or ConfigError.
    """
    path = Path(path)
    if layout != "auto" and layout not in LAYOUTS:
        raise ConfigError(explain("unknown layout of frames", got=repr(layout), expected=f"auto, {', '.join(LAYOUTS)}"))
    if not path.exists():
        raise FileError(explain("there is no such file or folder", where=path))
    if layout == "auto":
        layout = next((name for name, known in LAYOUTS.items() if known.recognise(path)), "")
        if not layout and path.is_dir() and is_folder_layout(path, complete=False):
            layout = "folder"     # its reader says what is missing
        if not layout:
            raise FormatError(explain("no known layout of posed images", where=path,
                                      expected="; ".join(f"{name}: {known.signs}" for name, known in LAYOUTS.items())))
    frames = LAYOUTS[layout].read(path)
    if frames.skipped:
        warnings.warn(f"{path}: {len(frames.skipped)} of {len(frames) + len(frames.skipped)} frames are left out: "
                      f"{count_reasons(frames.skipped)}", stacklevel=2)
    return frames
