"""AdamW with its parameter groups, and weights averaged over the steps."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import nn

from pc3d.config import TrainConfig
from pc3d.errors import ConfigError, explain

Network = TypeVar("Network", bound=nn.Module)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW whose groups carry ``factor``, what the learning rate of a step is multiplied by for them.

    Parameters with factor 0 are frozen: no gradient of theirs is computed either. Raises ConfigError for a prefix that no
    parameter has, and where nothing is left to train.
    """
    _check_prefixes(model, [group.prefix for group in config.groups])
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        group = next((group for group in config.groups if name.startswith(group.prefix)), None)
        decay = config.weight_decay if group is None or group.weight_decay is None else group.weight_decay
        if config.decay == "matrices" and parameter.dim() < 2:
            decay = 0.0
        if group is not None and group.lr == 0:
            parameter.requires_grad_(False)
            continue
        members.setdefault((1.0 if group is None else group.lr, decay), []).append(parameter)
    if not members:
        raise ConfigError(explain("nothing is left to train", where="train.groups", got="lr: 0 for every parameter"))
    return torch.optim.AdamW([{"params": parameters, "factor": factor, "weight_decay": decay}
                              for (factor, decay), parameters in members.items()], lr=config.lr)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of a step, in each group times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def averaged(model: Network) -> Network:
    """A copy of a network that follows it, see ``follow``."""
    average = copy.deepcopy(model).eval()
    average.requires_grad_(False)
    return average


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """``average = decay * average + (1 - decay) * model`` for parameters; buffers (norm statistics) are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for ours, theirs in zip(average.buffers(), model.buffers()):
        ours.copy_(theirs)


def _check_prefixes(model: nn.Module, prefixes: Iterable[str]) -> None:
    names = [name for name, _ in model.named_parameters()]
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            parts = sorted({".".join(name.split(".")[:depth]) + "." for name in names for depth in (1, 2)})
            raise ConfigError(explain("no parameter has this prefix", where="train.groups", got=repr(prefix),
                                      expected=f"for example one of {', '.join(parts)}"))
