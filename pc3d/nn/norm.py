"""Batch normalisation over all rows of a batch, on however many processes the batch lies.

    mean = sum x / n,   var = sum (x - mean)^2 / n,   y = (x - mean) / sqrt(var + eps) * weight + bias

Sums and n run over the rows of all processes, so that two processes with half a batch each see what one with the whole
sees. torch's SyncBatchNorm does the same, but on GPUs only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of rows (N, C), eps 1e-4 and momentum 0.1 as in the released weights.

    ``synchronised`` takes the statistics over all processes of the default group. A batch of fewer than two rows has no
    variance: it is normalised with the running statistics, which stay as they are. torch would raise, and a small scan
    often leaves one voxel at the deepest level.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-4, momentum=0.1)
        self.synchronised = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.synchronised:
            alone = self.training and len(x) < 2
            return self._with_running_statistics(x) if alone else super().forward(x)
        count, mean, var = global_moments(x.detach())
        if count < 2:
            return self._with_running_statistics(x)
        self.learn(mean, var, count)
        normalised: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, (var + self.eps).rsqrt(), count)
        return normalised

    def learn(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics towards mean and variance (C,) over a batch of so many rows, more than one."""
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((var * (count / (count - 1))).to(self.running_var.dtype), self.momentum)
            self.num_batches_tracked += 1

    def _with_running_statistics(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def synchronise_norms(model: nn.Module) -> None:
    """Let every BatchNorm of a model take its statistics over all processes."""
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.synchronised = True


def global_moments(x: Tensor) -> tuple[int, Tensor, Tensor]:
    """Rows in all processes, and mean and variance (C,) over them; deviations are summed about the common mean."""
    wide = _wide(x)
    sums = torch.cat([wide.sum(0).double(), wide.new_tensor([len(x)], dtype=torch.float64)])  # a float32 count ends at 2^24
    distributed.all_reduce(sums)
    count = int(sums[-1])
    mean = (sums[:-1] / max(count, 1)).to(wide.dtype)
    squares = (wide - mean).square().sum(0)
    distributed.all_reduce(squares)
    return count, mean, squares / max(count, 1)


class _Normalise(torch.autograd.Function):
    """``(x - mean) * scale * weight + bias``; the gradient knows that mean and scale came from all rows:

    dx = weight * scale * (dy - mean(dy) - z * mean(dy * z)),   z = (x - mean) * scale,   means over all rows.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, count: int) -> Tensor:
        z = (_wide(x) - mean) * scale
        ctx.save_for_backward(z, weight, scale)
        ctx.count = count
        return (z * weight + bias).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        z, weight, scale = ctx.saved_tensors
        wide = _wide(grad)
        own = torch.stack([wide.sum(0), (wide * z).sum(0)])  # gradients of bias and weight by these rows
        mean_grad, mean_along = _all_sum(own) / ctx.count
        dx = weight * scale * (wide - mean_grad - z * mean_along)
        return dx.to(grad.dtype), own[1], own[0], None, None, None


def _wide(x: Tensor) -> Tensor:
    """Half types as float32."""
    return x if x.dtype == torch.float64 else x.float()


def _all_sum(x: Tensor) -> Tensor:
    total = x.clone()
    distributed.all_reduce(total)
    return total
