"""Looking at a run before it is started: does it work, what does it need, where does a step go?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pc3d.config import ExperimentConfig
from pc3d.data import ScanDataset
from pc3d.engine.distributed import Processes, processes
from pc3d.engine.evaluate import evaluate_model
from pc3d.engine.logging import clock, memory
from pc3d.engine.run import open_data
from pc3d.engine.stopwatch import Stopwatch
from pc3d.engine.train import Trainer
from pc3d.errors import DataError, explain

STEPS = 2  # of a dry run
SCANS = 2


@dataclass(frozen=True)
class DryRun:
    """What two steps and the validation of two scans tell of a run."""

    scans: int
    validation_scans: int
    parameters: int
    steps_per_epoch: int
    epochs: int
    losses: tuple[float, ...]
    step_seconds: float        # of the second step, its data included: the first warms up
    scan_seconds: float        # evaluating one scan
    processes: int
    memory: int                # bytes, at most so far, of one process
    disk: int                  # bytes that training states and weights will take
    evaluations: int

    def lines(self) -> list[str]:
        """The findings as text."""
        epoch = self.steps_per_epoch * self.step_seconds
        validation = self.validation_scans * self.scan_seconds / self.processes
        return [
            f"data      {self.scans} training scans, {self.validation_scans} validation scans",
            f"network   {self.parameters / 1e6:.2f} million parameters",
            f"losses    {', '.join(f'{loss:.3f}' for loss in self.losses)}",
            f"memory    {self.memory / 2**30:.2f} GiB at most so far in this process (larger scans need more)",
            f"disk      {self.disk / 1e6:.0f} MB for weights and training states",
            f"epoch     {clock(epoch)}, estimated: {self.steps_per_epoch} steps of {self.step_seconds:.2f} s, data included",
            f"eval      {clock(validation)}, estimated: {self.scan_seconds:.2f} s a scan",
            f"whole run {clock(self.epochs * epoch + self.evaluations * validation)}, estimated: {self.epochs} epochs, "
            f"{self.evaluations} evaluations"]


def dry_run(config: ExperimentConfig) -> DryRun:
    """Load everything, run two steps and the validation of two scans, and write nothing."""
    with prepared(config) as (trainer, validation, group):
        start = time.perf_counter()
        losses, seconds = [], 0.0
        for _, record in zip(range(STEPS), trainer.steps()):
            losses.append(record["loss"])
            seconds, start = time.perf_counter() - start, time.perf_counter()
        evaluate_model(trainer.best_guess, validation, group, limit=SCANS)
        scan_seconds = (time.perf_counter() - start) / min(SCANS, len(validation))
        train, tensors = trainer.config.train, sum(tensor.nbytes for tensor in trainer.model.state_dict().values())
        copies = 3 + (train.ema > 0)  # weights and two moments, and the average
        return DryRun(
            len(trainer.scans), len(validation), sum(parameter.numel() for parameter in trainer.model.parameters()),
            trainer.plan.steps_per_epoch, train.epochs, tuple(losses), seconds, scan_seconds, group.count, memory(group.device),
            tensors * (2 + copies * (train.keep + 1)), -(-train.epochs // train.eval_every))


def profile(config: ExperimentConfig, steps: int = 8) -> list[str]:
    """Where a step goes: lines with the milliseconds of each stage, mean of some steps after two to warm up, and the ops
    that take longest in one more."""
    with prepared(config) as (trainer, _, group):
        trainer.watch = watch = Stopwatch(group.device)
        records = trainer.steps()
        with stages(trainer.model, watch):
            for _ in range(2):
                next_record(records)
            watch.seconds.clear()
            waited, start = 0.0, time.perf_counter()
            for _ in range(steps):
                waited += next_record(records)["data_seconds"]
            lines = _stage_lines({"waiting for data": waited, **watch.seconds}, time.perf_counter() - start, steps)
        kinds = [torch.profiler.ProfilerActivity.CPU]
        kinds += [torch.profiler.ProfilerActivity.CUDA] if group.device.type == "cuda" else []
        with torch.profiler.profile(activities=kinds) as trace:
            next_record(records)
        order = "self_cuda_time_total" if group.device.type == "cuda" else "self_cpu_time_total"
        table = trace.key_averages().table(sort_by=order, row_limit=12, max_name_column_width=48)
        return [*lines, "", table]


def next_record(records: Iterator[dict[str, float]]) -> dict[str, float]:
    """Run one more step; raises DataError when the run is over."""
    record = next(records, None)
    if record is None:
        raise DataError(explain("the run is shorter than the steps to look at", do="Set train.epochs higher for this."))
    return record


@contextmanager
def prepared(config: ExperimentConfig) -> Iterator[tuple[Trainer, ScanDataset, Processes]]:
    """A trainer as ``train`` would make it, without a run folder."""
    with processes(config.train.device) as group:
        scans, validation, config = open_data(config)
        trainer = Trainer(config, scans, group)
        if config.train.init is not None:
            trainer.start_from(config.train.init)
        yield trainer, validation, group


@contextmanager
def stages(model: nn.Module, watch: Stopwatch) -> Iterator[None]:
    """Time the forward passes of the parts of a network as stages of their own."""
    handles = []
    for name, part in model.named_children():
        open_stages = ExitStack()

        def begin(_: nn.Module, __: Any, name: str = name, stack: ExitStack = open_stages) -> None:
            stack.enter_context(watch.stage(f"  {name}"))

        def end(_: nn.Module, __: Any, ___: Any, stack: ExitStack = open_stages) -> None:
            stack.close()

        handles += [part.register_forward_pre_hook(begin), part.register_forward_hook(end)]
    yield
    for handle in handles:
        handle.remove()


def _stage_lines(seconds: dict[str, float], total: float, steps: int) -> list[str]:
    """Milliseconds of each stage, those inside another one indented, and what no stage claims."""
    outer = sum(value for name, value in seconds.items() if not name.startswith(" "))
    inner = {name: value for name, value in seconds.items() if name.startswith(" ")}
    rows: dict[str, float] = {}
    for name, value in seconds.items():
        if not name.startswith(" "):
            rows[name] = value
            if name == "forward and loss":
                rows |= inner | {"  matching, losses, pooling": value - sum(inner.values())}
    rows["the rest"] = total - outer
    lines = [f"{name:<28} {1e3 * value / steps:8.1f} ms {100 * value / total:5.1f} %" for name, value in rows.items()]
    return [*lines, f"{'a step':<28} {1e3 * total / steps:8.1f} ms"]
