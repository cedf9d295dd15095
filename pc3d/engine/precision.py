"""Networks in half precision, by torch's autocast: weights stay float32, products run in the named type."""

from __future__ import annotations

import torch

from pc3d.errors import ConfigError, explain
from pc3d.models import Relation3D
from pc3d.structures import LayerOutput, PointBatch, Relation3DOutput

#: What configs call a precision -> the type that products run in.
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def type_of(precision: str) -> torch.dtype:
    """The type by its name; raises ConfigError for a name that is none."""
    if precision not in TYPES:
        raise ConfigError(explain("unknown precision", got=repr(precision), expected=f"of {', '.join(TYPES)}"))
    return TYPES[precision]


def forward_in(model: Relation3D, batch: PointBatch, dtype: torch.dtype) -> Relation3DOutput:
    """Run a network in a type; the output is float32 in any case."""
    if dtype == torch.float32:
        output: Relation3DOutput = model(batch)
        return output
    with torch.autocast(batch.xyz.device.type, dtype):
        return in_float32(model(batch))


def in_float32(output: Relation3DOutput) -> Relation3DOutput:
    """The output of a network under autocast, ready for what comes next; states that were one object stay one."""
    layers = [LayerOutput(layer.class_logits.float(), layer.scores.float(), layer.centers.float(),
                          [mask.float() for mask in layer.masks]) for layer in output.layers]
    states = {id(state): [scan.float() for scan in state] for state in output.memory}
    semantic = None if output.semantic is None else output.semantic.float()
    return Relation3DOutput(layers, [states[id(state)] for state in output.memory], semantic)
