"""From arrays to tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def as_tensor(column: NDArray[Any]) -> Tensor:
    """The same memory as a tensor; a copy where the array may not be written to, which tensors cannot say of themselves."""
    return torch.from_numpy(np.require(column, requirements="W"))
