"""The SAM family: masks from points. Every object of an image by a grid of points, at the resolution of the logits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc3d.lift.masks import FrameMasks
from pc3d.lift.segmenters.checkpoint import Checkpoint, load, prepare
from pc3d.structures import Frame, suppression

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Family(NamedTuple):
    """How one generation of SAM takes its images."""

    architecture: str
    types: Collection[str]
    stretch: bool                       # to a square; otherwise the longer side fills it and the rest is padded
    mean_std: tuple[tuple[float, ...], tuple[float, ...]]


#: SAM 3's segment-everything and its point prompts are its tracker's, which shares the checkpoint of the whole.
FAMILIES = {
    "sam": Family("SamModel", {"sam"}, False, _IMAGENET),
    "samhq": Family("SamHQModel", {"sam_hq"}, False, _IMAGENET),
    "sam2": Family("Sam2Model", {"sam2", "sam2_video"}, True, _IMAGENET),
    "sam3": Family("Sam3TrackerModel", {"sam3", "sam3_video", "sam3_tracker", "sam3_tracker_video"}, True,
                   ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
}


@dataclass(frozen=True)
class AutomaticOptions:
    """Automatic mask generation, with the defaults of SAM."""

    points: int = 32            # per side of the grid
    batch: int = 64             # prompts at a time
    iou: float = 0.88           # predicted quality of a mask, at least
    stability: float = 0.95     # IoU of the mask at logits of 1 and of -1, at least
    nms: float = 0.7            # IoU of boxes above which the better mask stays


class PromptedSegmenter:
    """One model of the SAM family: ``__call__`` finds everything in a frame, ``prompt`` one object by its points or box.

    Masks keep the size of the logits (256 x 256 for the released models): they cover the image, and lifting samples them
    where points fall. No torchvision: resizing, filtering and suppression are here.
    """

    ahead = "image"

    def __init__(self, family: str, source: str, device: str = "cpu", options: AutomaticOptions | None = None) -> None:
        self.family, self.options = FAMILIES[family], options or AutomaticOptions()
        self.checkpoint: Checkpoint = load(source, self.family.architecture, self.family.types, device)
        self.size = int(np.ravel(self.checkpoint.model.prompt_encoder.input_image_size)[0])

    @property
    def classes(self) -> tuple[str, ...]:
        """SAM names nothing."""
        return ()

    def __call__(self, frame: Frame) -> FrameMasks:
        """All masks of the frame that are sure and stable enough, without doubles."""
        found = self.find(frame.rgb)
        return FrameMasks.from_masks(found.masks.numpy(), found.scores.numpy())

    @torch.no_grad()
    def find(self, rgb: NDArray[np.uint8]) -> Found:
        """All masks of an image, each whole: a part lies in the mask of its object too."""
        image = self.embed(rgb)
        side = (np.arange(self.options.points) + 0.5) / self.options.points
        grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
        masks, scores = [], []
        for start in range(0, len(grid), self.options.batch):
            logits, quality = self._decode(image, grid[start:start + self.options.batch, None], None)
            kept = quality.flatten() >= self.options.iou
            logits, quality = logits.flatten(0, 1)[kept], quality.flatten()[kept]
            stable = stability(logits) >= self.options.stability
            masks.append((logits[stable] > 0).cpu())
            scores.append(quality[stable].cpu())
        found, score = torch.cat(masks), torch.cat(scores)
        kept = suppress(box_iou(boxes_of(found)), score, self.options.nms)
        return Found(found[kept], score[kept].clamp(0, 1), torch.full((len(kept),), -1))

    @torch.no_grad()
    def prompt(self, frame: Frame, points: NDArray[np.floating] | None = None, labels: NDArray[np.integer] | None = None,
               box: NDArray[np.floating] | None = None) -> FrameMasks:
        """The object at ``points`` (P, 2) pixels of the colour image, labels 1 inside and 0 outside, or in a box (4,)."""
        scale = np.array([frame.camera.width, frame.camera.height], float)
        shares = None if points is None else (np.asarray(points, float) + 0.5)[None] / scale
        given = None if points is None else np.ones(len(points), int) if labels is None else np.asarray(labels)
        corners = None if box is None else ((np.asarray(box, float).reshape(2, 2) + 0.5) / scale).reshape(1, 4)
        logits, quality = self._decode(self.embed(frame.rgb), shares, given, corners)
        best = int(quality[0].argmax())
        mask, score = (logits[0, best] > 0).cpu().numpy(), quality[0, best].clamp(0, 1).cpu().numpy()
        return FrameMasks.from_masks(mask[None], score[None])

    def embed(self, rgb: NDArray[np.uint8]) -> Embedded:
        """Run the image encoder."""
        settings, (mean, std) = self.checkpoint.settings, self.family.mean_std
        height, width = rgb.shape[:2]
        scale = self.size / max(height, width)
        size = (self.size, self.size) if self.family.stretch else (round(height * scale), round(width * scale))
        pixels = prepare(torch.tensor(rgb, device=self.checkpoint.device), size, (self.size, self.size),
                         settings.get("image_mean", mean), settings.get("image_std", std))
        features = self.checkpoint.model.get_image_embeddings(pixels)
        if isinstance(features, tuple):      # SAM-HQ's decoder also takes what the encoder's early layers saw
            return Embedded({"image_embeddings": features[0], "intermediate_embeddings": features[1]}, size)
        return Embedded({"image_embeddings": features}, size)

    def _decode(self, image: Embedded, points: NDArray[np.floating] | None, labels: NDArray[np.integer] | None,
                boxes: NDArray[np.floating] | None = None) -> tuple[Tensor, Tensor]:
        """Logits (P, 3, h, w) of the image without padding, and predicted IoU (P, 3), of P prompts in shares of the image."""
        device, (height, width) = self.checkpoint.device, image.size
        arguments: dict[str, Any] = dict(image.features)
        if points is not None:
            given = np.ones(points.shape[:2], int) if labels is None else np.broadcast_to(labels, points.shape[:2])
            arguments["input_points"] = torch.tensor(points * [width, height], dtype=torch.float32, device=device)[None]
            arguments["input_labels"] = torch.tensor(given, dtype=torch.int64, device=device)[None]
        if boxes is not None:
            scaled = boxes * [width, height, width, height]
            arguments["input_boxes"] = torch.tensor(scaled, dtype=torch.float32, device=device)[None]
        found = self.checkpoint.model(**arguments, multimask_output=True)
        logits = found.pred_masks[0]
        rows, columns = (max(1, round(logits.shape[axis] * side / self.size)) for axis, side in ((2, height), (3, width)))
        return logits[:, :, :rows, :columns], found.iou_scores[0]


class Found(NamedTuple):
    """What a model found in an image, on the CPU: masks that may overlap, and how sure it is of each."""

    masks: Tensor       # (K, h, w) bool
    scores: Tensor      # (K,)
    labels: Tensor      # (K,) -1 for none


class Embedded(NamedTuple):
    """An image after its encoder, and the part of the square that it fills."""

    features: dict[str, Any]
    size: tuple[int, int]


def stability(logits: Tensor) -> Tensor:
    """IoU (P,) of a mask drawn generously and strictly: at logits above -1 and above 1."""
    strict, generous = ((logits > level).flatten(1).sum(1) for level in (1, -1))
    return strict / generous.clamp(min=1)


def boxes_of(masks: Tensor) -> Tensor:
    """Boxes (P, 4) x0 y0 x1 y1 of boolean masks (P, h, w), half open; empty masks have no area."""
    sides = []
    for axis in (1, 2):
        seen = masks.any(axis)
        first, last = seen.int().argmax(1), seen.shape[1] - seen.flip(1).int().argmax(1)
        sides.append((first, torch.where(seen.any(1), last, first)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 1).float()


def box_iou(boxes: Tensor) -> Tensor:
    """IoU of every pair (P, P) of boxes (P, 4); of an empty one with itself, 0."""
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (high - low).clamp(min=0).prod(2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return common / (area[:, None] + area[None] - common).clamp(min=1e-9)


def mask_iou(masks: Tensor) -> Tensor:
    """IoU of every pair (P, P) of boolean masks (P, h, w); of an empty one with itself, 0."""
    pixels = masks.flatten(1).float()
    common, area = pixels @ pixels.T, pixels.sum(1)
    return common / (area[:, None] + area[None] - common).clamp(min=1)


def suppress(iou: Tensor, scores: Tensor, limit: float) -> Tensor:
    """Rows (K,) to keep, best first: of pairs whose ``iou`` (P, P) is above ``limit`` the better; what is empty goes."""
    order = torch.argsort(-scores, stable=True)
    there = order[iou.diagonal()[order] > 0]
    return torch.from_numpy(suppression.suppress((iou > limit).numpy(), there.numpy()))
