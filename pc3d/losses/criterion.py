"""The training loss of Relation3D: set prediction in every layer, and relations between superpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pc3d.config import LossConfig
from pc3d.losses.contrastive import contrastive_loss
from pc3d.losses.masks import bce_loss, dice_loss, mask_iou
from pc3d.losses.matcher import Match, match
from pc3d.structures import LayerOutput, Relation3DOutput, Targets

SCORE_IOU = 0.5  # masks worse than this teach the score head nothing


@dataclass(frozen=True)
class LossSizes:
    """What the terms of a batch are divided by, known before the network runs.

    A batch may lie in parts, on several processes or to be run one after the other: when each part is divided by the sizes
    of the whole, the losses and gradients of the parts add up to those of the whole.
    """

    scans: float
    pairs: float         # of matched queries and instances
    class_weight: float  # summed over all queries
    superpoints: float

    @classmethod
    def of(cls, targets: Sequence[Targets], num_queries: int, config: LossConfig) -> LossSizes:
        """The sizes of some scans: each instance has a query, as far as there are queries."""
        pairs = sum(min(num_queries, len(target.labels)) for target in targets)
        unmatched = num_queries * len(targets) - pairs
        return cls(len(targets), pairs, pairs + config.no_object * unmatched, sum(t.masks.shape[1] for t in targets))


class Criterion(nn.Module):
    """Weighted sum of the losses of all layers, each matched on its own; L = sum of layers + L_cont."""

    def __init__(self, config: LossConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes

    def forward(self, output: Relation3DOutput, targets: tuple[Targets, ...],
                sizes: LossSizes | None = None) -> dict[str, Tensor]:
        """Return the total under "loss", the relation loss under "contrastive" and each term as "layer3.dice", unweighted.

        ``sizes`` are those of the whole batch when these scans are a part of it.
        """
        sizes = sizes or LossSizes.of(targets, output.layers[0].class_logits.shape[1], self.config)
        terms: dict[str, Tensor] = {}
        total = output.layers[0].scores.new_zeros(())
        for index, layer in enumerate(output.layers):
            losses = self.layer_losses(layer, targets, sizes, last=index == len(output.layers) - 1)
            total = total + sum(getattr(self.config, name) * value for name, value in losses.items())
            terms |= {f"layer{index}.{name}": value for name, value in losses.items()}
        if self.config.contrastive > 0:
            share = len(targets) / sizes.scans
            terms["contrastive"] = contrastive_loss(output.memory, targets, self.config) * share
            total = total + self.config.contrastive * terms["contrastive"]
        if output.semantic is not None:
            terms["semantic"] = _semantic_loss(output.semantic, targets) / sizes.superpoints
            total = total + self.config.semantic * terms["semantic"]
        return {"loss": total, **terms}

    def layer_losses(self, layer: LayerOutput, targets: tuple[Targets, ...], sizes: LossSizes, *,
                     last: bool) -> dict[str, Tensor]:
        """The five terms of one layer: cls, bce, dice, center, score."""
        matches = match(layer, targets, self.config)
        bce, dice, score = (torch.stack(terms).sum() / sizes.scans for terms in zip(*(
            _mask_losses(layer, scan, target, matches[scan]) for scan, target in enumerate(targets))))
        if last and self.config.final_dice == "sum":
            dice = dice * sizes.scans
        return {"cls": self._class_loss(layer, targets, matches) / (sizes.class_weight or 1), "bce": bce, "dice": dice,
                "center": _center_loss(layer, targets, matches) / max(sizes.pairs, 1), "score": score}

    def _class_loss(self, layer: LayerOutput, targets: tuple[Targets, ...], matches: list[Match]) -> Tensor:
        """Weighted cross-entropy, summed over all queries; unmatched ones are no object."""
        logits = layer.class_logits
        labels = torch.full(logits.shape[:2], self.num_classes, dtype=torch.int64, device=logits.device)
        weight = logits.new_ones(self.num_classes + 1)
        weight[-1] = self.config.no_object
        for scan, (target, pairs) in enumerate(zip(targets, matches)):
            labels[scan, pairs.queries] = target.labels[pairs.instances]
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weight, reduction="sum")


def _mask_losses(layer: LayerOutput, scan: int, target: Targets, pairs: Match) -> tuple[Tensor, Tensor, Tensor]:
    """BCE, dice and score loss of one scan; a scan without instances has none of them."""
    logits = layer.masks[scan][pairs.queries]
    if len(logits) == 0:
        nothing = layer.masks[scan].sum() * 0
        return nothing, nothing, nothing
    masks = target.masks[pairs.instances].to(logits.dtype)
    score = _score_loss(layer.scores[scan, pairs.queries], mask_iou(logits, masks))
    return bce_loss(logits, masks), dice_loss(logits, masks), score


def _semantic_loss(logits: Tensor, targets: tuple[Targets, ...]) -> Tensor:
    """Cross-entropy of each superpoint's class (S, C+1), summed; one of no instance is of the last class."""
    labels = []
    for target in targets:
        label = torch.full((target.masks.shape[1],), logits.shape[1] - 1, dtype=torch.int64, device=logits.device)
        instance, superpoint = target.masks.nonzero(as_tuple=True)
        label[superpoint] = target.labels[instance]
        labels.append(label)
    return F.cross_entropy(logits, torch.cat(labels), reduction="sum")


def _score_loss(scores: Tensor, iou: Tensor) -> Tensor:
    """Mean squared error of predicted mask IoU over the pairs that overlap well enough."""
    good = iou > SCORE_IOU
    return F.mse_loss(scores[good], iou[good]) if good.any() else scores.sum() * 0


def _center_loss(layer: LayerOutput, targets: tuple[Targets, ...], matches: list[Match]) -> Tensor:
    """L1 distance (metres) between matched centres, summed over axes and pairs."""
    predicted = torch.cat([layer.centers[scan, pairs.queries] for scan, pairs in enumerate(matches)])
    true = torch.cat([target.centers[pairs.instances] for target, pairs in zip(targets, matches)]).to(predicted.dtype)
    return (predicted - true).abs().sum()
