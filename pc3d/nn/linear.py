"""Linear layers that, at inference in float32 on the CPU, multiply with oneDNN instead of BLAS.

torch's own copies the bias into the result before it multiplies; oneDNN adds it at the end, and on the shapes of the decoder
it multiplies up to a fifth faster beside that.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """As nn.Linear, with its weights and gradients."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., C) times the transposed weight (D, C), plus bias (D): (..., D)."""
    if not _is_served(x, weight):
        return F.linear(x, weight, bias)
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def _is_served(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN takes this product; nothing is known of its gradient."""
    return (_HAS_ONEDNN and x.is_cpu and x.dtype == weight.dtype == torch.float32 and x.dim() > 1 and x.numel() > 0
            and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling())


_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
