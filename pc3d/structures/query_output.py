"""What the decoder says of its queries, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class LayerOutput:
    """Heads of one decoder layer on K queries of B scans; scan b has S_b superpoints."""

    class_logits: Tensor   # (B, K, C+1), last class: no object
    scores: Tensor         # (B, K) predicted mask IoU, no sigmoid
    centers: Tensor        # (B, K, 3) metres
    masks: list[Tensor]    # per scan (K, S_b) logits over its own superpoints


@dataclass(frozen=True, eq=False)
class Relation3DOutput:
    """All layers in training, the last one only in evaluation.

    ``memory[m][b]`` is the superpoint features (S_b, d) of scan b in state m: before the decoder, then after each layer.
    A state that its layer did not refine is the same list object as the one before.
    """

    layers: list[LayerOutput]
    memory: list[list[Tensor]]
    semantic: Tensor | None = None   # (S, C+1) class logits of the superpoints of all scans, when the network has that head
