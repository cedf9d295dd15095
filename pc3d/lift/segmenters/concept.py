"""SAM 3 by text (promptable concept segmentation): every object that a phrase names, with the phrase as its label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.errors import ConfigError, explain
from pc3d.lift.masks import FrameMasks
from pc3d.lift.segmenters.checkpoint import Checkpoint, load, prepare, tokenize
from pc3d.lift.segmenters.prompted import FAMILIES, Found, mask_iou, suppress
from pc3d.structures import Frame

TYPES = {"sam3", "sam3_video"}


@dataclass(frozen=True)
class ConceptOptions:
    """What to look for, and from queries to masks, with the thresholds of SAM 3."""

    text: str = ""          # phrases joined by commas: chair,dining table
    score: float = 0.5      # that the phrase is in the image at all, times that the query is one of it
    mask: float = 0.5       # probability inside a mask
    nms: float = 0.7        # IoU of masks, also of two phrases, above which the better one stays


class ConceptSegmenter:
    """SAM 3's detector, run once for each phrase over one encoded image. Masks cover the image, as its logits do."""

    ahead = "image"

    def __init__(self, source: str, device: str = "cpu", options: ConceptOptions | None = None) -> None:
        self.options = options or ConceptOptions()
        self.classes = tuple(phrase.strip() for phrase in self.options.text.split(","))
        if not all(self.classes) or len(set(self.classes)) < len(self.classes):
            raise ConfigError(explain("these are no phrases to look for", got=repr(self.options.text),
                                      expected="some, each once, joined by commas: text=chair,dining table"))
        self.checkpoint: Checkpoint = load(source, "Sam3Model", TYPES, device)
        self._texts = self._encode()

    def __call__(self, frame: Frame) -> FrameMasks:
        """Masks of the frame with a phrase and a score each."""
        found = self.find(frame.rgb)
        return FrameMasks.from_masks(found.masks.numpy(), found.scores.numpy(), found.labels.numpy(), self.classes)

    @torch.no_grad()
    def find(self, rgb: NDArray[np.uint8]) -> Found:
        """All masks of an image for all phrases."""
        model, settings = self.checkpoint.model, self.checkpoint.settings
        mean, std = FAMILIES["sam3"].mean_std
        side = int(np.ravel(model.config.image_size)[0])
        pixels = prepare(torch.tensor(rgb, device=self.checkpoint.device), (side, side), (side, side),
                         settings.get("image_mean", mean), settings.get("image_std", std))
        image = model.get_vision_features(pixels)
        masks, scores, labels = [], [], []
        for label, text in enumerate(self._texts):
            out = model(vision_embeds=image, **text)
            score = (out.pred_logits.sigmoid() * out.presence_logits.sigmoid())[0]
            kept = score >= self.options.score
            masks.append((out.pred_masks[0, kept].sigmoid() >= self.options.mask).cpu())
            scores.append(score[kept].cpu())
            labels.append(torch.full((int(kept.sum()),), label))
        mask, confidence = torch.cat(masks), torch.cat(scores)
        kept = suppress(mask_iou(mask), confidence, self.options.nms)
        return Found(mask[kept], confidence[kept], torch.cat(labels)[kept])

    @torch.no_grad()
    def _encode(self) -> list[dict]:
        """What the detector takes of each phrase; the same for every image."""
        model = self.checkpoint.model
        config = model.config.text_config
        ids, known = tokenize(self.checkpoint, self.classes, config.max_position_embeddings, config.vocab_size)
        return [{"text_embeds": model.get_text_features(input_ids=one[None], attention_mask=some[None], return_dict=True),
                 "attention_mask": some[None]} for one, some in zip(ids, known)]
