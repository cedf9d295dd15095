"""Masks of a frame kept on disk: the 2D network is most of the work, and its answer to an image never changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from pc3d.errors import FileError
from pc3d.io.files import atomic_file
from pc3d.io.npz import read_arrays
from pc3d.lift.masks import FrameMasks
from pc3d.lift.segmenters.base import Segmenter
from pc3d.structures import Frame


class CachedSegmenter:
    """A segmenter that remembers: by the pixels of the image, the model and its options."""

    ahead = "image"

    def __init__(self, segmenter: Segmenter, folder: Path, key: str) -> None:
        self.segmenter, self.folder, self.key = segmenter, folder, key
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, frame: Frame) -> FrameMasks:
        """The masks of the frame, from the folder when they are there and whole."""
        rgb = frame.rgb
        name = hashlib.sha256(f"{self.key} {rgb.shape} ".encode() + rgb.tobytes()).hexdigest()[:32]
        path = self.folder / f"{name}.npz"
        if path.is_file():
            try:
                held = read_arrays(path)
                return FrameMasks(held["ids"], held["scores"], held["labels"], tuple(held["classes"].tolist()))
            except (FileError, KeyError, ValueError):
                path.unlink()       # a damaged file is made again
        masks = self.segmenter(frame)
        with atomic_file(path) as file:
            np.savez_compressed(file, ids=masks.ids, scores=masks.scores, labels=masks.labels,
                                classes=np.array(masks.classes, dtype=str))
        return masks
