"""Choosing where to compute."""

from __future__ import annotations

import re

import torch

from pc3d.errors import BackendError, explain


def choose_device(name: str = "auto") -> torch.device:
    """Return the device by name (auto, cpu, cuda, cuda:N); ``auto`` is CUDA when there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wanted = re.fullmatch(r"cpu|cuda(?::([0-9]+))?", name)
    if wanted is None:
        raise BackendError(explain("unknown device", got=repr(name), expected="auto, cpu, cuda or cuda:N"))
    count = torch.cuda.device_count()
    if name != "cpu" and int(wanted[1] or 0) >= count:
        here = ", ".join(f"cuda:{number}" for number in range(count)) or "none"
        raise BackendError(explain("no such CUDA device here", got=repr(name), expected=f"cpu, or one that torch sees ({here})",
                                   do="What is installed, and for which GPUs: pc3d doctor"))
    return torch.device(name)
