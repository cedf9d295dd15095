"""Mask2Former, MaskFormer, OneFormer and EoMT: masks with labels, in one pass. Preparing and reading them is ours.

transformers' own post-processing is not fit for lifting: it never crops the padding, so that masks are stretched by up to
a few percent; in panoptic mode it leaves no pixel without a mask; and its thresholds are ignored in instance mode.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pc3d.errors import CheckpointError, ConfigError, explain
from pc3d.lift.masks import FrameMasks
from pc3d.lift.segmenters.checkpoint import Checkpoint, load, prepare, tokenize
from pc3d.structures import Frame

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Family(NamedTuple):
    """One architecture of queries with a class and a mask each."""

    architecture: str
    types: Collection[str]
    asks: bool = False      # for its task, in words


FAMILIES = {
    "mask2former": Family("Mask2FormerForUniversalSegmentation", {"mask2former"}),
    "maskformer": Family("MaskFormerForInstanceSegmentation", {"maskformer"}),
    "oneformer": Family("OneFormerForUniversalSegmentation", {"oneformer"}, asks=True),
    "eomt": Family("EomtForUniversalSegmentation", {"eomt"}),
}


@dataclass(frozen=True)
class UniversalOptions:
    """From queries to masks: the panoptic rule of the Mask2Former paper, with its thresholds."""

    score: float = 0.5      # of a query's class
    mask: float = 0.5       # probability inside a mask
    overlap: float = 0.8    # of a mask's own area that is left after better ones, at least
    skip: str = ""          # names of classes to leave out, joined by commas: wall,floor


class UniversalSegmenter:
    """One labelled 2D model; masks at the resolution of its logits, without the padding, and void where nothing is sure."""

    ahead = "image"

    def __init__(self, family: str, source: str, device: str = "cpu", options: UniversalOptions | None = None) -> None:
        self.family = FAMILIES[family]
        self.checkpoint: Checkpoint = load(source, self.family.architecture, self.family.types, device)
        names = self.checkpoint.model.config.id2label
        self.classes = tuple(names[index] for index in sorted(names))
        self.choose(options or own_options(self.checkpoint.settings, source))
        self._task = {"task_inputs": self._ask("the task is panoptic")} if self.family.asks else {}

    def choose(self, options: UniversalOptions) -> None:
        """Take other options; raises ConfigError for classes to skip that the model does not have."""
        skipped = {name for name in options.skip.split(",") if name}
        if unknown := skipped - set(self.classes):
            raise ConfigError(explain("the model knows no such class", where=self.checkpoint.source,
                                      got=", ".join(sorted(unknown)), expected=f"some of {', '.join(self.classes)}"))
        self.options = options
        self._skipped = [index for index, name in enumerate(self.classes) if name in skipped]

    @torch.no_grad()
    def __call__(self, frame: Frame) -> FrameMasks:
        """Masks of the frame with a label and a score each."""
        rgb = torch.tensor(frame.rgb, device=self.checkpoint.device)
        size, padded = self.sizes(rgb.shape[0], rgb.shape[1])
        mean, std = _IMAGENET
        settings = self.checkpoint.settings
        pixels = prepare(rgb, size, padded, settings.get("image_mean", mean), settings.get("image_std", std))
        found = self.checkpoint.model(pixel_values=pixels, **self._task)
        logits = crop(found.masks_queries_logits[0], size, padded)
        return self.masks(found.class_queries_logits[0], logits)

    def _ask(self, text: str) -> Tensor:
        """A task for OneFormer (1, T): token ids, zeros after the text."""
        config = self.checkpoint.model.config
        ids, known = tokenize(self.checkpoint, [text], config.task_seq_len, config.text_encoder_vocab_size)
        return ids * known

    def sizes(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Size of the resized image, and of the image with its padding."""
        square = getattr(self.checkpoint.model.config, "image_size", None)      # EoMT has one size only
        if isinstance(square, int):
            scale = square / max(height, width)
            return (round(height * scale), round(width * scale)), (square, square)
        wanted = self.checkpoint.settings.get("size", {})
        if "height" in wanted:
            size = int(wanted["height"]), int(wanted["width"])
        else:
            shortest, longest = wanted.get("shortest_edge", 800), wanted.get("longest_edge", 1333)
            scale = min(shortest / min(height, width), longest / max(height, width))
            size = round(height * scale), round(width * scale)
        step = int(self.checkpoint.settings.get("size_divisor") or 32)
        return size, (-(-size[0] // step) * step, -(-size[1] // step) * step)

    def masks(self, class_logits: Tensor, mask_logits: Tensor) -> FrameMasks:
        """Masks from queries: class logits (Q, C + 1), the last for none, and mask logits (Q, h, w).

        Each pixel goes to the query of the largest score times probability, if that probability reaches ``mask``; a mask
        that keeps too little of itself goes. Its score is that of its class times its mean probability.
        """
        options = self.options
        probability = class_logits.softmax(-1)[:, :-1]
        probability[:, self._skipped] = 0
        score, label = probability.max(-1)
        chosen = score >= options.score
        score, label, inside = score[chosen], label[chosen], mask_logits[chosen].sigmoid()
        if not len(score):
            return FrameMasks.from_masks(np.zeros((0, *mask_logits.shape[1:]), bool), classes=self.classes)
        owner = (score[:, None, None] * inside).argmax(0)
        whole = inside >= options.mask
        masks = whole & (owner == torch.arange(len(score), device=owner.device)[:, None, None])
        area, own = masks.flatten(1).sum(1), whole.flatten(1).sum(1)
        kept = (area > 0) & (area >= options.overlap * own)
        mean = (inside * masks).flatten(1).sum(1) / area.clamp(min=1)
        return FrameMasks.from_masks(masks[kept].cpu().numpy(), (score * mean)[kept].clamp(0, 1).cpu().numpy(),
                                     label[kept].cpu().numpy(), self.classes)


def own_options(settings: dict[str, Any], source: str) -> UniversalOptions:
    """The thresholds that a checkpoint asks for ("masks" in its preprocessor_config.json), and the usual ones beside them."""
    own, usual = settings.get("masks", {}), UniversalOptions()
    try:
        score, mask, overlap = (float(own.get(name, getattr(usual, name))) for name in ("score", "mask", "overlap"))
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(explain("these thresholds are none", where=f"{source}/preprocessor_config.json", got=repr(own),
                                      expected='"masks": {"score": 0.5, "mask": 0.5, "overlap": 0.8}')) from error
    return UniversalOptions(score, mask, overlap)


def crop(logits: Tensor, size: tuple[int, int], padded: tuple[int, int]) -> Tensor:
    """Mask logits (Q, h, w) of the image alone; of the last row and column of cells, part may be padding.

    Masks of lifting cover the image from edge to edge, so logits are resampled where the edge cuts a cell.
    """
    height, width = (logits.shape[axis] * size[axis - 1] / padded[axis - 1] for axis in (1, 2))
    if height.is_integer() and width.is_integer():
        return logits[:, :int(height), :int(width)]
    rows, columns = (torch.arange(round(side), device=logits.device) for side in (height, width))
    y = (rows + 0.5) * (height / len(rows)) / logits.shape[1] * 2 - 1
    x = (columns + 0.5) * (width / len(columns)) / logits.shape[2] * 2 - 1
    grid = torch.stack(torch.broadcast_tensors(x[None], y[:, None]), -1)[None]
    return torch.nn.functional.grid_sample(logits[None], grid, align_corners=False, padding_mode="border")[0]
