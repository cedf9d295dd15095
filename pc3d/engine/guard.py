"""What happens when a loss is not finite: the step is skipped, and after some in a row the run stops with advice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from pc3d.errors import DataError, explain


class Guard:
    """Counts steps in a row whose loss or gradient is not finite, and takes back what they did to the norms' statistics."""

    def __init__(self, model: nn.Module, limit: int) -> None:
        self.buffers = list(model.buffers())
        self.limit, self.skipped = limit, 0
        self.kept = [buffer.clone() for buffer in self.buffers]

    def remember(self) -> None:
        """Keep the running statistics as they are before a step: one NaN in them would outlive the skipped step."""
        torch._foreach_copy_(self.kept, self.buffers)

    def passes(self, loss: float, norm: float, scans: Callable[[], Sequence[str]]) -> bool:
        """Whether the weights may follow a step; ``scans`` names those it saw. Raises DataError after too many that may not."""
        if math.isfinite(loss) and math.isfinite(norm):
            self.skipped = 0
            return True
        torch._foreach_copy_(self.buffers, self.kept)
        self.skipped += 1
        if self.skipped >= self.limit:
            raise DataError(explain(
                f"the loss or its gradient was not finite {self.skipped} steps in a row", where=f"scans {', '.join(scans())}",
                got=f"loss {loss}, gradient norm {norm}",
                do="Lower train.lr, set train.grad_clip=10 or train.warmup_steps=1000, or use train.precision=bf16 instead of "
                   "fp16; resume with --resume. If it is always the same scans, look at them: pc3d view SCAN"))
        return False
