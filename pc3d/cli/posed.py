"""Posed images as the command line names them: a layout, a convention and an alignment to the scan; and pictures of them."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pc3d.cli.console import in_shell
from pc3d.errors import FileError, explain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pc3d.lift import FrameMasks, Lifter
    from pc3d.lift.segmenters import Segmenter
    from pc3d.structures import Frame, Instances, PointCloud

LOW_SHARE = 0.1  # of depth pixels on the scan; poses read the wrong way put fewer there, and little comes of them
CANDIDATES = 12  # frames whose masks are kept, for a picture to choose from


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
    frames = [reading.apply(frame, transform) for frame in found[::every]]
    share = conventions.share_on_scan(frames, cloud)
    if share < LOW_SHARE:
        check = f"pc3d frames check {in_shell(path)} {in_shell(scan)}"
        warnings.warn(explain(f"{share:.0%} of the depth of the frames lies on the scan", where=path,
                              do=f"Whether poses and depth are read as they are meant says: {check}"), stacklevel=2)
    return frames, found.skipped


class Remembered:
    """A segmenter that keeps images and masks of a few of its frames, evenly spread, to draw them."""

    def __init__(self, segmenter: Segmenter, frames: list[Frame]) -> None:
        count = min(CANDIDATES, len(frames))
        self.segmenter = segmenter
        self.ahead = getattr(segmenter, "ahead", None)
        self.wanted = {frames[(2 * k + 1) * len(frames) // (2 * count)].name for k in range(count)}
        self.shots: dict[str, tuple[NDArray[np.uint8], FrameMasks]] = {}

    def __call__(self, frame: Frame) -> FrameMasks:
        """The masks of the frame."""
        masks = self.segmenter(frame)
        if frame.name in self.wanted:
            with suppress(FileError):   # masks from files do not need the image
                self.shots[frame.name] = frame.rgb, masks
        return masks

    def draw(self, path: Path, cloud: PointCloud, instances: Instances, lifter: Lifter) -> None:
        """Draw frames, their masks, scan and instances into a png file."""
        from pc3d import viz

        viz.write_png(path, viz.draw_lifting(cloud, instances, lifter.votes(), self.shots))
