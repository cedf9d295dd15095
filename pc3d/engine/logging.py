"""What a run says while it trains: metrics.jsonl always, a line on the terminal, TensorBoard and W&B when asked for."""

from __future__ import annotations

import json
import math
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import torch

from pc3d.config import ExperimentConfig
from pc3d.errors import require_package
from pc3d.progress import Counter


class MetricsLog:
    """Appends one json object a line to ``metrics.jsonl`` of a run folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"

    def write(self, kind: str, values: dict[str, Any]) -> None:
        """Append a record with its kind and the time of day (unix seconds)."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "time": round(time.time(), 3), **_finite(values)}) + "\n")

    def read(self, kind: str) -> list[dict[str, Any]]:
        """All records of one kind, in order; a last line that was cut off, of a run that was killed or is writing, is none."""
        if not self.path.exists():
            return []
        whole, _, _ = self.path.read_text(encoding="utf-8").rpartition("\n")
        return [record for record in map(json.loads, whole.splitlines()) if record["kind"] == kind]

    @property
    def size(self) -> int:
        """Bytes so far; what a training state remembers."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Forget what was written after the log had this size: a resumed run writes it again."""
        with self.path.open("ab") as file:
            file.truncate(min(size, self.size))     # it may have been removed: longer, it would be filled with zeros


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """NaN and infinity, which json does not know, as None."""
    return {name: _finite(value) if isinstance(value, dict) else
            None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()}


class Logger:
    """Sends each record to the log of a run and to the services of ``train.log_to``; silent in all processes but the first."""

    def __init__(self, config: ExperimentConfig, run: Path, *, active: bool = True, size: int = 0) -> None:
        """``size`` is that of the log when the training state was saved; what came after is forgotten."""
        self.log = MetricsLog(run)
        self.active = active
        if active:
            self.log.cut(size)
        self.services = [SERVICES[name](config, run) for name in config.train.log_to] if active else []

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Record numbers of a kind (step, train, val) at a step of the run."""
        if not self.active:
            return
        self.log.write(kind, {"step": step, **values})
        numbers = {f"{kind}/{name}": value for name, value in values.items() if isinstance(value, int | float)}
        for service in self.services:
            service.write(step, numbers)

    @property
    def size(self) -> int:
        """Bytes of the log so far."""
        return self.log.size


class TensorBoard:
    """Scalars in ``<run>/tensorboard``."""

    def __init__(self, config: ExperimentConfig, run: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run / "tensorboard"))

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Add scalars at a step; a step written again after a resume replaces the earlier one in TensorBoard's view."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()


class WeightsAndBiases:
    """A W&B run named after the run folder, in the project pc3d; it goes on when the run is resumed.

    W&B takes no step twice: after a kill, the steps that are run again keep their first numbers there.
    """

    def __init__(self, config: ExperimentConfig, run: Path) -> None:
        import wandb

        known = run / "wandb.id"  # one run there for one folder here, however often it is resumed
        if not known.exists():
            known.write_text(secrets.token_hex(8))
        self.run = wandb.init(project="pc3d", name=run.name, id=known.read_text(), dir=str(run), resume="allow",
                              config=config.model_dump(mode="json"))

    def write(self, step: int, numbers: dict[str, float]) -> None:
        """Log scalars at a step."""
        self.run.log(numbers, step=step)


SERVICES: dict[str, type[TensorBoard] | type[WeightsAndBiases]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def require_services(config: ExperimentConfig) -> None:
    """Raise BackendError unless the packages of ``train.log_to`` are installed."""
    for name in config.train.log_to:
        require_package(name, extra="train" if name == "tensorboard" else name, purpose=f"train.log_to=[{name}]")


class StepLine:
    """Progress of the steps of a run: loss, rate, times, memory and the time left."""

    def __init__(self, device: torch.device, steps: int, done: int) -> None:
        self.device, self.steps, self.first = device, steps, done
        self.counter = Counter("step")
        self.start = time.monotonic()

    def show(self, done: int, record: dict[str, float]) -> None:
        """Show where the run is after ``done`` steps; ``record`` is that of the last one."""
        left = (time.monotonic() - self.start) / max(done - self.first, 1) * (self.steps - done)
        self.counter(done, self.steps, f"loss {record['loss']:.3f}  lr {record['lr']:.1e}  "
                     f"data {record['data_seconds']:.2f} s  step {record['seconds']:.2f} s  "
                     f"{memory(self.device) / 2**30:.1f} GiB  {clock(left)} left")


def memory(device: torch.device) -> int:
    """Most bytes that this process has held so far: on the GPU, or in RAM when it computes on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def clock(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds, of a duration."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"
