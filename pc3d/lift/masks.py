"""The masks of one image: whole partitions of it, one over another, and what is known of each mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain

MAX_MASKS = 65535
UNNAMED = "object"  # class of what no mask has a name for
_TABLE = 2**20  # least to largest number of a label map, for them to be looked up instead of sorted


@dataclass(frozen=True, eq=False)
class FrameMasks:
    """K masks of one image, at any resolution: it covers the colour image from edge to edge.

    ``ids`` (L, h, w) holds 1..K, 0 for none. Masks that do not overlap share a layer, so memory grows with the overlap
    and not with K.
    """

    ids: NDArray[np.uint16]         # (L, h, w)
    scores: NDArray[np.float32]     # (K,) how sure the 2D model is, in [0, 1]
    labels: NDArray[np.int64]       # (K,) index into classes, -1 for none
    classes: tuple[str, ...] = ()
    tracks: NDArray[np.int64] | None = None  # (K,) the same number in other frames means the same object; -1 for none

    def __post_init__(self) -> None:
        if self.ids.ndim != 3 or self.ids.dtype != np.uint16:
            raise DataError(explain("mask ids must be layers of uint16", got=f"{self.ids.dtype} {self.ids.shape}",
                                    expected="(L, h, w)"))
        count = len(self.scores)
        if self.labels.shape != (count,) or (self.tracks is not None and self.tracks.shape != (count,)):
            raise DataError(explain("every mask needs a label, and a track if any has one", expected=count,
                                    got=f"{len(self.labels)} labels, {0 if self.tracks is None else len(self.tracks)} tracks"))
        if self.ids.size and int(self.ids.max()) > count:
            raise DataError(explain("a mask id has no score", got=int(self.ids.max()), expected=f"up to {count}"))
        if count and not (np.isfinite(self.scores).all() and self.scores.min() >= 0 and self.scores.max() <= 1):
            raise DataError(explain("mask scores must be in [0, 1]", got=f"[{self.scores.min()}, {self.scores.max()}]"))
        if count and (self.labels.min() < -1 or self.labels.max() >= len(self.classes)):
            raise DataError(explain("a mask label has no class", got=f"{self.labels.min()} to {self.labels.max()}",
                                    expected=f"-1 to {len(self.classes) - 1}"))

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def from_label_map(cls, label_map: NDArray[np.integer], scores: NDArray[np.floating] | None = None,
                       labels: NDArray[np.integer] | None = None, classes: Sequence[str] = (), *,
                       tracks: NDArray[np.integer] | None = None, none: int = 0) -> FrameMasks:
        """One mask of each number in an image (h, w) but ``none``; what is known of them in the order of the numbers."""
        if label_map.ndim != 2:
            raise DataError(explain("a label map is one plane of numbers", got=f"{label_map.dtype} {label_map.shape}"))
        ids, numbers = ids_of(label_map, none)
        return cls._known(ids[None], len(numbers), scores, labels, classes, tracks)

    @classmethod
    def from_masks(cls, masks: NDArray[np.bool_], scores: NDArray[np.floating] | None = None,
                   labels: NDArray[np.integer] | None = None, classes: Sequence[str] = (), *,
                   tracks: NDArray[np.integer] | None = None, overlaps: bool = False) -> FrameMasks:
        """Pack boolean masks (K, h, w): the smaller over the larger, or with ``overlaps`` every mask whole.

        Small over large leaves over-split masks rather than merged ones ("Details Matter", ICCV 2025, section 3): what a
        mask of a whole desk says of the lamp on it is less than what the lamp's own mask says.
        """
        masks = np.asarray(masks, dtype=bool)
        if masks.ndim != 3:
            raise DataError(explain("masks are planes of booleans", got=f"{masks.shape}", expected="(K, h, w)"))
        count = len(masks)
        _check_count(count)
        areas = masks.sum(axis=(1, 2))
        layers: list[NDArray[np.uint16]] = [np.zeros(masks.shape[1:], np.uint16)]
        for row in np.argsort(-areas, kind="stable"):
            layer = layers[0] if not overlaps else next((one for one in layers if not one[masks[row]].any()), None)
            if layer is None:
                layers.append(np.zeros(masks.shape[1:], np.uint16))
                layer = layers[-1]
            layer[masks[row]] = row + 1
        return cls._known(np.stack(layers), count, scores, labels, classes, tracks)

    @classmethod
    def _known(cls, ids: NDArray[np.uint16], count: int, scores: NDArray[np.floating] | None,
               labels: NDArray[np.integer] | None, classes: Sequence[str], tracks: NDArray[np.integer] | None) -> FrameMasks:
        """Masks of score 1 without labels and tracks, where nothing else is given."""
        return cls(ids, np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32),
                   np.full(count, -1) if labels is None else np.asarray(labels, np.int64), tuple(classes),
                   None if tracks is None else np.asarray(tracks, np.int64))

    @classmethod
    def empty(cls, height: int = 1, width: int = 1) -> FrameMasks:
        """No masks: the frame only says what is visible."""
        return cls.from_label_map(np.zeros((height, width), np.uint16))

    @property
    def areas(self) -> NDArray[np.int64]:
        """Pixels of each mask (K,)."""
        return np.bincount(self.ids.reshape(-1), minlength=len(self) + 1)[1:]


def ids_of(label_map: NDArray[np.integer], none: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.integer]]:
    """Ids 1..K (h, w) of the numbers in an image, in their order, 0 for ``none``; and the numbers (K,), ascending.

    Raises DataError for more than 65,535 of them.
    """
    low, high = (int(label_map.min()), int(label_map.max())) if label_map.size else (0, 0)
    if label_map.dtype.kind not in "iu" or high - low >= _TABLE:
        numbers, place = np.unique(label_map, return_inverse=True)
        place, there = place.reshape(label_map.shape), np.ones(len(numbers), bool)
    else:                           # looked up: sorting all pixels takes many times as long
        place = label_map.astype(np.int64) - low if low else label_map
        numbers, there = np.arange(low, high + 1), np.zeros(high - low + 1, bool)
        there[place] = True
    kept = there & (numbers != none)
    _check_count(int(kept.sum()))
    return np.where(kept, np.cumsum(kept), 0).astype(np.uint16)[place], numbers[kept]


def _check_count(count: int) -> None:
    if count > MAX_MASKS:
        raise DataError(explain("too many masks in one image", got=count, expected=f"up to {MAX_MASKS}",
                                do="Drop the small ones, or filter by score."))
