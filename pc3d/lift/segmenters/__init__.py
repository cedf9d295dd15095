"""Where the masks of a frame come from: files, the truth, or a 2D model; one small adapter each behind one call.

A segmenter is called with a Frame and returns its FrameMasks. ``make_segmenter`` builds one from the words of the command
line: ``masks:DIR``, ``sam:ID``, ``mask2former:ID``, ..., options after a question mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from pc3d.errors import ConfigError, DataError, explain
from pc3d.lift.masks import FrameMasks
from pc3d.lift.segmenters.disk import MaskFolder
from pc3d.structures import Frame

__all__ = ["GivenMasks", "MaskFolder", "Segmenter", "make_segmenter"]


class Segmenter(Protocol):
    """Anything that finds the masks of a frame; raises FileError for a frame it has none for."""

    def __call__(self, frame: Frame) -> FrameMasks:
        """Masks of one frame."""


class GivenMasks:
    """Masks that are already there, by the names of their frames: the truth of a synthetic room, say."""

    def __init__(self, masks: Mapping[str, FrameMasks]) -> None:
        self.masks = masks

    def __call__(self, frame: Frame) -> FrameMasks:
        """The masks of the frame, none where nothing was given."""
        if frame.name not in self.masks:
            raise DataError(explain("no masks were given for the frame", where=f"frame {frame.name}"))
        return self.masks[frame.name]


def make_segmenter(text: str, device: str = "cpu", cache: Path | None = None) -> Segmenter:
    """Build a segmenter from ``kind:source?option=value&option=value``; raises ConfigError for what is not known."""
    kind, _, rest = text.partition(":")
    source, _, query = rest.partition("?")
    options = dict(part.partition("=")[::2] for part in query.split("&") if part)
    if kind != "masks" or not source:
        raise ConfigError(explain("unknown source of masks", got=repr(text), expected="masks:DIR"))
    if options:
        raise ConfigError(explain("masks:DIR takes no options", got=", ".join(options)))
    return MaskFolder(Path(source))
