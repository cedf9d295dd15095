"""Which scans a step trains on, and the loader that makes them.

A run is a list of steps, numbered from 0 through all epochs. What a step sees follows from the seed and its number alone:
not from what was drawn before, nor from how many workers or processes there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from pc3d.config import ExperimentConfig
from pc3d.data import Sample, ScanDataset, TrainingSamples, collate
from pc3d.engine.distributed import Processes
from pc3d.errors import ConfigError, DataError, Pc3dError, explain
from pc3d.structures import PointBatch

Key = tuple[int, int]  # epoch (from 1), index of a scan


@dataclass(frozen=True)
class Plan:
    """How the scans of an epoch are dealt out: ``batch`` a step, in shares for the processes, each in parts."""

    scans: int
    batch: int
    parts: int
    epochs: int
    seed: int
    rank: int = 0
    processes: int = 1

    @classmethod
    def of(cls, config: ExperimentConfig, scans: int, processes: Processes) -> Plan:
        """The plan of a config; raises ConfigError for a batch that cannot be dealt out, DataError for too few scans."""
        train, pieces = config.train, processes.count * config.train.accumulate
        if train.batch_size % pieces:
            raise ConfigError(explain("the batch cannot be dealt out evenly", where="train.batch_size", got=train.batch_size,
                                      expected=f"a multiple of {pieces}: {processes.count} processes, each in "
                                               f"{train.accumulate} parts (train.accumulate)"))
        if scans < pieces:
            raise DataError(explain("there are fewer training scans than processes and parts want", got=f"{scans} scans",
                                    expected=f"{pieces} or more", do="Use fewer processes or a smaller train.accumulate."))
        batch = min(train.batch_size, scans // pieces * pieces)
        return cls(scans, batch, train.accumulate, train.epochs, train.seed, processes.rank, processes.count)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; scans left over when the batches are full wait for the next one, as in the paper."""
        return self.scans // self.batch

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def scans_of(self, step: int) -> list[Key]:
        """All scans of a step; an epoch is a permutation that follows from the seed and its number."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, epoch + 1]).permutation(self.scans)
        return [(epoch + 1, int(index)) for index in order[place * self.batch:(place + 1) * self.batch]]

    def parts_of(self, step: int) -> list[list[Key]]:
        """What this process runs of a step, part by part."""
        size = self.batch // (self.processes * self.parts)
        keys = self.scans_of(step)[self.rank * size * self.parts:]
        return [keys[part * size:(part + 1) * size] for part in range(self.parts)]


class _Parts(Sampler[list[Key]]):
    """The parts of all steps from ``start`` to the end of the run."""

    def __init__(self, plan: Plan, start: int) -> None:
        self.plan, self.start = plan, start

    def __len__(self) -> int:
        return (self.plan.steps - self.start) * self.plan.parts

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.start, self.plan.steps):
            yield from self.plan.parts_of(step)


def load_batches(config: ExperimentConfig, scans: ScanDataset, plan: Plan, start: int) -> Iterator[list[PointBatch]]:
    """The parts of each step, from step ``start`` on; with workers they are made while the network runs.

    What is wrong with a scan is said in its own words, without the traceback that torch puts around those of a worker.
    """
    loader: DataLoader[Sample] = DataLoader(
        TrainingSamples(scans, config), batch_sampler=_Parts(plan, start), num_workers=config.data.workers,
        collate_fn=partial(collate, backbone=config.model.backbone),
        generator=torch.Generator().manual_seed(config.train.seed))  # else it draws from the network's random numbers
    parts = iter(loader)
    for _ in range(start, plan.steps):
        try:
            yield [next(parts) for _ in range(plan.parts)]
        except Pc3dError as error:
            kind = type(error)
            raise kind(str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2].rstrip()) from None
