"""Masks without any model: regions of even colour and unbroken surface. Patches, not objects."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from pc3d import ops
from pc3d.errors import ConfigError, explain
from pc3d.lift.masks import FrameMasks
from pc3d.structures import Camera, Frame

_SURE = 0.3     # score of every region: patches of neighbouring images seldom agree, and must not be believed as objects are
_NEIGHBORS = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True)
class RegionOptions:
    """Chosen by eye on real frames of a kitchen."""

    width: int = 320        # of the image that is segmented
    blur: float = 0.8       # pixels
    scale: float = 2.0      # larger: larger regions
    jump: float = 0.05      # step of depth, as a share of it, that weighs as much as black beside white
    smallest: int = 200     # pixels of a region


class RegionSegmenter:
    """Graph segmentation (Felzenszwalb and Huttenlocher, IJCV 2004) of an image by colour and depth."""

    ahead = "masks"

    def __init__(self, options: RegionOptions | None = None) -> None:
        self.options = options or RegionOptions()
        width, blur, *above = astuple(self.options)
        if not (min(width, *above) > 0 and blur >= 0 and np.isfinite([blur, *above]).all()):
            raise ConfigError(explain("regions cannot be found so", got=self.options,
                                      expected="finite numbers above 0, blur 0 or more"))

    def __call__(self, frame: Frame) -> FrameMasks:
        """Every region of the frame, of one low score and without labels."""
        options, camera = self.options, frame.camera
        width = min(options.width, camera.width)
        height = max(1, round(camera.height * width / camera.width))
        rgb = _resized(frame.rgb / np.float32(255), height, width)
        rgb = np.stack([gaussian_filter(channel, options.blur) for channel in np.moveaxis(rgb, 2, 0)], axis=2)
        depth = _depth(frame, height, width) if frame.has_depth else np.zeros((height, width), np.float32)
        edges, weights = _graph(rgb, depth, options.jump)
        regions = ops.felzenszwalb(edges, weights, height * width, options.scale, options.smallest)
        masks = FrameMasks.from_label_map(regions.numpy().reshape(height, width), none=-1)
        return replace(masks, scores=np.full(len(masks), _SURE, np.float32))


def _graph(rgb: NDArray[np.float32], depth: NDArray[np.float32], jump: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Each pixel with four of its neighbours: edges (E, 2) and the larger of the steps of colour and depth along them (E,).

    A step of depth is what a plane through either pixel and the one behind it does not foresee: on a plane 1/z is linear.
    """
    height, width = depth.shape
    rows = np.arange(height * width, dtype=np.int32).reshape(height, width)
    inverse = np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)
    around = np.pad(inverse, 1, mode="edge")
    edges, weights = [], []
    for down, right in _NEIGHBORS:
        here = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
        there = (slice(down, height), slice(max(0, right), width + min(0, right)))
        color = np.linalg.norm(rgb[here] - rgb[there], axis=2) / np.sqrt(3)
        before = around[1 - down:1 - down + height, 1 - right:1 - right + width][here]
        after = around[1 + down:1 + down + height, 1 + right:1 + right + width][there]
        one, other = inverse[here], inverse[there]
        bend = np.minimum(np.abs(2 * one - before - other), np.abs(2 * other - after - one))
        known = np.minimum(one, other) > 0
        step = np.where(known, bend / (jump * np.maximum(np.maximum(one, other), 1e-6)), 0)
        edges.append(np.stack([rows[here].ravel(), rows[there].ravel()], axis=1))
        weights.append(np.maximum(color, step).ravel().astype(np.float32))
    return torch.from_numpy(np.concatenate(edges)), torch.from_numpy(np.concatenate(weights))


def _depth(frame: Frame, height: int, width: int) -> NDArray[np.float32]:
    """Depth where the pixels of the colour image, at this size, look; 0 where the depth image does not reach."""
    depth, (inside, row, column) = frame.depth, _places(frame.camera.resized(width, height), frame.depth_camera)
    return np.where(inside, depth[row, column], np.float32(0))


@lru_cache(maxsize=8)
def _places(camera: Camera, other: Camera) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Whether another camera in the same place sees what the pixels (H, W) of one do, and their rows and columns there."""
    v, u = np.mgrid[:camera.height, :camera.width]
    at = np.rint(other.project(camera.rays(np.stack([u.ravel(), v.ravel()], axis=1))))
    inside = np.all((at >= 0) & (at < [other.width, other.height]), axis=1)
    column, row = np.where(inside[:, None], at, 0).astype(np.int64).T
    return inside.reshape(u.shape), row.reshape(u.shape), column.reshape(u.shape)


def _resized(image: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    """The nearest pixels; blurring comes after."""
    v = ((np.arange(height) + 0.5) * image.shape[0] / height).astype(int)
    u = ((np.arange(width) + 0.5) * image.shape[1] / width).astype(int)
    return image[v][:, u].astype(np.float32)
