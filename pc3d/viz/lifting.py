"""Frames, their masks and the lifted scan in one picture: what the images said, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pc3d.lift import FrameMasks
from pc3d.lift.votes import Votes
from pc3d.structures import Instances, PointCloud
from pc3d.structures.palette import distinct_colors
from pc3d.viz.canvas import blank, paste
from pc3d.viz.panels import caption, draw_panels
from pc3d.viz.render import BACKGROUND

_UNUSED = (128, 130, 138)   # masks that became nothing
_GREY, _COLOR = 0.35, 0.65  # shares of image and mask where a mask lies
_SUPERSAMPLE = 3
_BORDER = 2                 # supersampled pixels


def draw_lifting(cloud: PointCloud, instances: Instances, votes: Votes,
                 shots: Mapping[str, tuple[NDArray[np.uint8], FrameMasks]], *, width: int = 1500, columns: int = 4
                 ) -> NDArray[np.uint8]:
    """Draw some frames, below each its masks in the colours of the objects they became, then scan and instances.

    ``shots`` are images by the name of their frame with the masks that were lifted; of them those are drawn that together
    show most objects. Returns (H, width, 3) uint8.
    """
    panels = draw_panels(cloud, instances, width=width)
    owner = became(instances, votes)
    names = choose(owner, votes, [name for name in votes.frame_names if name in shots], columns)
    if not names:
        return panels
    size = width / 144
    gap, head = round(1.2 * size), round(3.4 * size)
    wide = (width - (columns + 1) * gap) // columns
    colors = np.vstack([distinct_colors(len(instances)), [_UNUSED]]).astype(np.uint8)
    tiles = []
    for name in names:
        rgb, masks = shots[name]
        mine = votes.frame_of_mask == votes.frame_names.index(name)
        tiles.append(_tiles(rgb, masks, colors[owner[mine]], wide))
    high = max(len(photo) for photo, _ in tiles)
    image = blank(width, 2 * (head + high) + len(panels), BACKGROUND)
    caption(image, "Images", f"{len(names)} of {votes.num_frames}", 0, width, size)
    caption(image[head + high:], "Masks", f"{votes.num_masks:,} in all; in the colour of the object they became, grey: none",
            0, width, size)
    for column, (photo, overlay) in enumerate(tiles):
        paste(image, photo, gap + column * (wide + gap), head)
        paste(image, overlay, gap + column * (wide + gap), 2 * head + high)
    paste(image, panels, 0, 2 * (head + high))
    return image


def became(instances: Instances, votes: Votes) -> NDArray[np.int64]:
    """The instance (M,) that holds most of a mask and overlaps best with it in its frame, -1 where none holds half of it."""
    if not len(instances):
        return np.full(votes.num_masks, -1, np.int64)
    extent = csr_matrix(votes.held(instances).T)
    common = (votes.counts @ extent).toarray()                                  # (M, I)
    total = np.asarray(votes.counts.sum(axis=1)).reshape(-1, 1)
    seen = (votes.visible @ extent).toarray()[votes.frame_of_mask]
    iou = np.where(2 * common > total, common / np.maximum(total + seen - common, 1), 0)
    return np.where(iou.max(axis=1) > 0, iou.argmax(axis=1), -1)


def choose(owner: NDArray[np.int64], votes: Votes, names: list[str], count: int) -> list[str]:
    """Of the named frames those ``count``, in their order, that show most instances together."""
    shown = {name: set(owner[votes.frame_of_mask == votes.frame_names.index(name)].tolist()) - {-1} for name in names}
    covered: set[int] = set()
    chosen: list[str] = []
    while len(chosen) < min(count, len(names)):
        gain = {name: (len(shown[name] - covered), len(shown[name])) for name in names if name not in chosen}
        chosen.append(max(gain, key=lambda name: gain[name]))
        covered |= shown[chosen[-1]]
    return sorted(chosen, key=names.index)


def _tiles(rgb: NDArray[np.uint8], masks: FrameMasks, colors: NDArray[np.uint8],
           width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The image, and the image with masks of these colours (K, 3) over it, both (height, width, 3)."""
    height = round(width * rgb.shape[0] / rgb.shape[1])
    rows, columns = ((np.arange(k * _SUPERSAMPLE) + 0.5) / (k * _SUPERSAMPLE) for k in (height, width))
    photo = _sample(rgb, rows, columns).astype(np.float32)
    overlay = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2) * np.float32(0.5) + 110      # pale, so that colours tell
    for layer in masks.ids:
        ids = _sample(layer, rows, columns)
        inside = ids > 0
        overlay[inside] = _GREY * overlay[inside] + _COLOR * colors[ids[inside].astype(np.int64) - 1]
        overlay[_edges(ids)] *= 0.45
    return _average(photo), _average(overlay)


def _sample(image: NDArray, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray:
    """The nearest pixels at shares of height and width."""
    return image[(rows * image.shape[0]).astype(int)][:, (columns * image.shape[1]).astype(int)]


def _edges(ids: NDArray[np.uint16]) -> NDArray[np.bool_]:
    edge = np.zeros(ids.shape, dtype=bool)
    edge[:, _BORDER:] |= ids[:, _BORDER:] != ids[:, :-_BORDER]
    edge[_BORDER:] |= ids[_BORDER:] != ids[:-_BORDER]
    return edge


def _average(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    height, width = (k // _SUPERSAMPLE for k in image.shape[:2])
    return np.round(image.reshape(height, _SUPERSAMPLE, width, _SUPERSAMPLE, 3).mean(axis=(1, 3))).astype(np.uint8)
