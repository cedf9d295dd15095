"""The processes of a run, as torchrun starts them: one for each GPU, or several on the CPU.

torchrun says who is who in the environment (RANK, WORLD_SIZE, LOCAL_RANK); without it a run has one process, and every
function here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from pc3d.engine.device import choose_device
from pc3d.errors import BackendError, ConfigError, explain

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those of a run."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over all processes."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """The value of each process, by rank, in every process."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every ``count``-th item, from the rank on."""
        return items[self.rank::self.count]

    def wait(self) -> None:
        """Return once every process has come here."""
        if self.count > 1:
            distributed.barrier()


@contextmanager
def processes(device: str = "auto") -> Iterator[Processes]:
    """Join the processes that torchrun started, nccl between GPUs and gloo between CPUs; one process without torchrun.

    ``device`` is auto, cpu, cuda or, for one process alone, cuda:N. Raises BackendError for more processes than GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(choose_device(device))
        return
    own = _device_of(int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", count)), device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    # gloo is there beside nccl for what is no tensor: metrics, random states
    distributed.init_process_group("gloo" if own.type == "cpu" else "cpu:gloo,cuda:nccl")
    yield Processes(own, distributed.get_rank(), count)
    distributed.destroy_process_group()  # not after an error: nccl would wait for the others, whom torchrun stops


def _device_of(local_rank: int, local_count: int, name: str) -> torch.device:
    """The GPU of a process, or the CPU when that is asked for or all there is."""
    device = choose_device(name)
    if device.type == "cpu":
        return device
    if device.index is not None:
        raise ConfigError(explain("several processes cannot share one device", where="device", got=name,
                                  expected="cuda or cpu"))
    if local_count > torch.cuda.device_count():
        raise BackendError(explain("fewer GPUs than processes on this machine", got=f"{torch.cuda.device_count()} GPUs",
                                   expected=f"{local_count}, one for each process",
                                   do=f"Start fewer: torchrun --nproc-per-node {torch.cuda.device_count()}"))
    return torch.device("cuda", local_rank)
