"""The attention bias of relation-aware self-attention from the boxes of queries, without their K x K x 2F encoding.

    d_ij = [log(|x_i - x_j| / l_i + 1), log(l_i / l_j)]      six numbers for boxes with centre x and size l
    R_ij = ReLU(W [sin(2 pi d_ij B), cos(2 pi d_ij B)] + b)  one number per head

No gradient reaches boxes or B: both are data to the layer that learns W and b.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._library import define

EPSILON = 1e-5  # metres, added to box sizes; known to csrc/relation_bias_kernels.h too


def relation_bias(boxes: Tensor, gauss: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Bias R (H, K, K) of boxes (K, 6), centre and size in metres, with B = gauss (6, F), W = weight (H, 2F), b = bias (H).

    Half types are computed in float32. Raises DataError for shapes and types that do not fit.
    """
    heads, waves = len(bias), gauss.shape[-1]
    for name, tensor, shape in (("boxes", boxes, (len(boxes), 6)), ("gauss", gauss, (6, waves)),
                                ("weight", weight, (heads, 2 * waves)), ("bias", bias, (heads,))):
        if tensor.shape != shape or not tensor.is_floating_point() or tensor.device != boxes.device:
            raise DataError(explain(f"{name} does not fit", where="relation_bias",
                                    got=f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}",
                                    expected=f"floating {shape} on {boxes.device}"))
    wide = torch.promote_types(weight.dtype, torch.float32)
    result: Tensor = _bias(*(tensor.to(wide) for tensor in (boxes.detach(), gauss, weight, bias))).to(weight.dtype)
    return result


def relation(boxes: Tensor) -> Tensor:
    """The six logarithms (K, K, 6) of all pairs of boxes (K, 6)."""
    center, size = boxes[:, :3], boxes[:, 3:] + EPSILON
    position = ((center[:, None] - center[None]).abs() / size[:, None] + 1).log()
    geometry = (size[:, None] / size[None]).log()
    return torch.cat([position, geometry], dim=2)


def _encode(boxes: Tensor, gauss: Tensor) -> Tensor:
    phase = relation(boxes) @ gauss * (2 * math.pi)
    return torch.cat([phase.sin(), phase.cos()], dim=2)


def _bias_reference(boxes: Tensor, gauss: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.nn.functional.linear(_encode(boxes, gauss), weight, bias).relu().permute(2, 0, 1).contiguous()


def _grad_reference(grad: Tensor, out: Tensor, boxes: Tensor, gauss: Tensor) -> Tensor:
    through = torch.where(out > 0, grad, 0).flatten(1)
    return torch.cat([through @ _encode(boxes, gauss).flatten(0, 1), through.sum(1, keepdim=True)], dim=1)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(output, *inputs[:2])


def _backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor, Tensor]:
    learned = _grad(grad, *ctx.saved_tensors)
    return None, None, learned[:, :-1], learned[:, -1]


_grad = define(
    "relation_bias_grad(Tensor grad, Tensor out, Tensor boxes, Tensor gauss) -> Tensor",
    reference=_grad_reference,
    fake=lambda grad, out, boxes, gauss: boxes.new_empty(out.shape[0], 2 * gauss.shape[1] + 1),
)

_bias = define(
    "relation_bias(Tensor boxes, Tensor gauss, Tensor weight, Tensor bias) -> Tensor",
    reference=_bias_reference,
    fake=lambda boxes, gauss, weight, bias: boxes.new_empty(bias.shape[0], boxes.shape[0], boxes.shape[0]),
    backward=_backward,
    setup_context=_keep,
)
