"""What every layout of posed images hands over: shots as found, of which those that can be used become frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FormatError, explain
from pc3d.io.frames.images import read_depth, read_rgb
from pc3d.io.frames.poses import pose_fault
from pc3d.structures import Camera, Frame


@dataclass(frozen=True, eq=False)
class Frames(Sequence[Frame]):
    """Frames in the order of their names or times, and what was left out and why; slices are Frames again."""

    frames: tuple[Frame, ...]
    layout: str = "python"
    where: str = ""
    skipped: dict[str, str] = field(default_factory=dict)  # name -> reason

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Frames: ...
    def __getitem__(self, index: int | slice) -> Frame | Frames:
        return replace(self, frames=self.frames[index]) if isinstance(index, slice) else self.frames[index]

    def summary(self) -> str:
        """How many frames there are and why others are not, in one line."""
        return f"{len(self)} frames ({self.layout})" + (f", skipped {count_reasons(self.skipped)}" if self.skipped else "")


def count_reasons(skipped: dict[str, str]) -> str:
    """Reasons with how often each was met: '3 (no pose), 1 (no depth image)'."""
    return ", ".join(f"{count} ({reason})" for reason, count in Counter(skipped.values()).most_common())


@dataclass(frozen=True, eq=False)
class Shot:
    """One image as a layout lists it; ``fault`` says why it cannot be used, if it is known already."""

    name: str
    camera: Camera | None
    rgb: Path | Callable[[], NDArray[np.uint8]] | None
    depth: Path | Callable[[], NDArray[np.float32]] | None = None
    pose: NDArray[np.float64] | None = None       # camera to world, OpenCV axes
    depth_camera: Camera | None = None            # None: that of the colour image
    depth_unit: float = 0.001                     # metres per step of a depth image
    timestamp: float | None = None
    fault: str | None = None


def names_of(paths: Sequence[str]) -> list[str]:
    """What listed images are called: all by their stems; where two share one, all by their folders too (``cam0/0001``).

    Folders that all have in common are left out. Where only the suffix tells two apart, all keep theirs.
    """
    files = [PurePosixPath(path) for path in paths]
    folders = [file.parent.parts for file in files]
    shared = next((i for i, level in enumerate(zip(*folders)) if len(set(level)) > 1), min(map(len, folders), default=0))
    below = ["/".join(file.parts[shared:]) for file in files]
    whole = [name.removesuffix(file.suffix) for name, file in zip(below, files)]
    return next((names for names in ([file.stem for file in files], whole) if len(set(names)) == len(set(files))), below)


def collect(layout: str, where: Path, shots: Sequence[Shot]) -> Frames:
    """Make frames of the shots that have image, camera, a rigid pose and a name of their own, and note the others.

    Raises FormatError if none has.
    """
    frames: dict[str, Frame] = {}
    skipped = {}
    for shot in shots:
        fault = shot.fault or _fault(shot) or ("another frame has its name" if shot.name in frames else None)
        if fault:
            skipped[shot.name] = fault
        else:
            frames[shot.name] = _frame(shot)
    if not frames:
        raise FormatError(explain("no frame can be used", where=where,
                                  got=f"{len(shots)} frames: {count_reasons(skipped)}" if shots else "no frames",
                                  expected="images with a camera-to-world pose"))
    return Frames(tuple(frames.values()), layout, str(where), skipped)


def _fault(shot: Shot) -> str | None:
    if shot.rgb is None or (isinstance(shot.rgb, Path) and not shot.rgb.is_file()):
        return "no colour image"
    if isinstance(shot.depth, Path) and not shot.depth.is_file():
        return "no depth image"
    if shot.camera is None:
        return "no intrinsics"
    return pose_fault(shot.pose)


def _frame(shot: Shot) -> Frame:
    camera: Any = shot.camera
    depth_camera = shot.depth_camera or camera
    rgb = partial(read_rgb, shot.rgb, camera) if isinstance(shot.rgb, Path) else shot.rgb
    depth = partial(read_depth, shot.depth, depth_camera, shot.depth_unit) if isinstance(shot.depth, Path) else shot.depth
    pose: Any = shot.pose
    return Frame(shot.name, camera, depth_camera, np.asarray(pose, dtype=np.float64), rgb, depth, shot.timestamp)  # type: ignore[arg-type]
