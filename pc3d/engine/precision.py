"""Networks in half precision, by torch's autocast: weights stay float32, products run in the named type.

Half precision is there for speed. A CPU without bfloat16 units emulates them, and the decoder takes four times as long as in
float32 (AMD EPYC with AVX2): there, bf16 means float32, which is closer to what bf16 stands for.
"""

from __future__ import annotations

import platform
import warnings
from functools import cache

import torch

from pc3d.errors import ConfigError, explain
from pc3d.models import Relation3D
from pc3d.structures import LayerOutput, PointBatch, Relation3DOutput

#: What configs call a precision -> the type that products run in.
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def type_of(precision: str, device: torch.device) -> torch.dtype:
    """The type that products of a precision run in on a device; raises ConfigError for a name that is none.

    bf16 on a CPU that would emulate it is float32, with one warning.
    """
    if precision not in TYPES:
        raise ConfigError(explain("unknown precision", got=repr(precision), expected=f"one of {', '.join(TYPES)}"))
    if precision == "bf16" and device.type == "cpu" and not multiplies_bfloat16():
        warn_of_float32()
        return torch.float32
    return TYPES[precision]


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 numbers (AVX-512 BF16, which AMX comes with; Arm BF16)."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported())  # AVX-512 alone makes oneDNN say that it supports bfloat16
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def warn_of_float32() -> None:
    """Say once that bf16 is float32 here."""
    warnings.warn("This CPU has no bfloat16 units: precision bf16 runs in float32, which is faster here and more exact. Ask "
                  "for fp32 to be rid of this line.", RuntimeWarning, stacklevel=4)


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
