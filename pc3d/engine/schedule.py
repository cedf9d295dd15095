"""The learning rate as a function of the step: there is no scheduler whose state could be lost."""

from __future__ import annotations

import math

from pc3d.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Rate of a step (from 0): the schedule's, times (step + 1) / warmup_steps while it warms up.

    poly:    ``lr * (1 - epoch / epochs) ** power``, the same for all steps of an epoch (from 0), as the paper
    cosine:  ``lr * (1 + cos(pi * t)) / 2``, t from 0 to 1 between warm-up and the last step
    """
    return _scheduled(config, step, steps_per_epoch) * min(1.0, (step + 1) / max(config.warmup_steps, 1))


def _scheduled(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    if config.schedule == "poly":
        return config.lr * (1 - step // steps_per_epoch / config.epochs) ** config.poly_power
    past = max(step - config.warmup_steps, 0)
    whole = max(config.epochs * steps_per_epoch - config.warmup_steps, 1)
    return config.lr * (1 + math.cos(math.pi * past / whole)) / 2
