"""What a segmenter is, and the simplest one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pc3d.errors import FileError, explain
from pc3d.lift.masks import FrameMasks
from pc3d.structures import Frame


class Segmenter(Protocol):
    """Anything that finds the masks of a frame; raises FileError for a frame it has none for.

    One may have an attribute ``ahead`` that says what is done of the next frames in background threads: "masks", it is
    asked there itself, several frames at a time; "image", the colour image that it will want is read there.
    """

    def __call__(self, frame: Frame) -> FrameMasks:
        """Masks of one frame."""


class GivenMasks:
    """Masks that are already there, by the names of their frames: the truth of a synthetic room, say."""

    def __init__(self, masks: Mapping[str, FrameMasks]) -> None:
        self.masks = masks

    def __call__(self, frame: Frame) -> FrameMasks:
        """The masks of the frame; FileError where none were given."""
        if frame.name not in self.masks:
            raise FileError(explain("no masks were given for the frame", where=f"frame {frame.name}"))
        return self.masks[frame.name]
