"""Choosing where to compute."""

from __future__ import annotations

import torch

from pc3d.errors import BackendError, explain


def choose_device(name: str = "auto") -> torch.device:
    """Return the device by name; ``auto`` is CUDA when there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BackendError(explain("unknown device", got=repr(name), expected="auto, cpu, cuda or cuda:N")) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendError(explain("no CUDA device is usable here", got=repr(name), do="Use device=cpu, or see: pc3d doctor"))
    return device
