"""Training: on one process or on as many as torchrun starts, from the beginning or from where a run was stopped."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pc3d import __version__
from pc3d.config import ExperimentConfig
from pc3d.data import ScanDataset
from pc3d.engine.batches import Plan, load_batches
from pc3d.engine.distributed import Processes, processes
from pc3d.engine.evaluate import score_scans
from pc3d.engine.guard import Guard
from pc3d.engine.logging import Logger, StepLine, require_services
from pc3d.engine.optimizer import averaged, follow, make_optimizer, set_rate
from pc3d.engine.precision import forward_in, type_of
from pc3d.engine.run import open_data, open_run
from pc3d.engine.schedule import learning_rate
from pc3d.engine.state import newest_state, random_state, save_state, set_random_state
from pc3d.engine.stopwatch import Stopwatch
from pc3d.losses import Criterion, LossSizes
from pc3d.metrics import merge_folds
from pc3d.models import Relation3D, build, load_into, save_model
from pc3d.nn.norm import synchronise_norms
from pc3d.structures import PointBatch


def train(config: ExperimentConfig, *, resume: bool = False) -> Path:
    """Train as configured; return the run folder with config.yaml, metrics.jsonl, training states, last and best weights.

    ``resume`` goes on from the newest training state in ``train.output``: on a CPU, to the bits of a run never stopped.
    """
    require_services(config)
    with processes(config.train.device) as group:
        scans, validation, config = open_data(config)
        trainer = Trainer(config, scans, group)
        run = Path(config.train.output)
        state = newest_state(run) if resume else None
        if state is None and config.train.init is not None:
            trainer.start_from(config.train.init)
        if group.first:  # after all that may be refused: a folder is made for a run that begins
            open_run(config, resume=resume)
        group.wait()
        if state is not None:
            trainer.load_state_dict(state)
        where = group.device.type if group.count == 1 else f"{group.count} processes ({group.device.type})"
        trainer.say(f"{len(scans)} scans, {trainer.plan.batch} a step, {trainer.plan.steps} steps, on {where}; run in {run}")
        trainer.fit(run, validation, log_size=0 if state is None else state["log_size"])
    return run


class Trainer:
    """A network in training: what one step does to it, and all that must be kept to go on."""

    def __init__(self, config: ExperimentConfig, scans: ScanDataset, group: Processes) -> None:
        self.config, self.scans, self.group = config, scans, group
        self.plan = Plan.of(config, len(scans), group)
        use_deterministic(config.train.deterministic)
        torch.manual_seed(config.train.seed)
        self.model = build(config.model).to(group.device)
        self.network = spread(TrainedNetwork(self.model, type_of(config.train.precision, group.device)), group)
        torch.manual_seed(config.train.seed + group.rank)  # processes start with the same weights, then drop out differently
        self.average = averaged(self.model) if config.train.ema > 0 else None
        self.optimizer = make_optimizer(self.model, config.train)
        self.scaler = torch.amp.GradScaler(group.device.type, init_scale=2.0**10, enabled=config.train.precision == "fp16")
        self.guard = Guard(self.model, config.train.max_nonfinite)
        self.watch = Stopwatch(group.device, exact=False)
        self.step, self.best = 0, -1.0
        self.totals: dict[str, float] = {}  # of the records of the steps since the epoch began

    def fit(self, run: Path, validation: ScanDataset, *, log_size: int = 0) -> None:
        """Run the steps that are left; save, evaluate and log as configured."""
        logger = Logger(self.config, run, active=self.group.first, size=log_size)
        line = StepLine(self.group.device, self.plan.steps, self.step)
        for record in self.steps():
            logger.write("step", self.step, record)
            if self.group.first:
                line.show(self.step, record)
            if self.step % self.plan.steps_per_epoch == 0:
                self.end_epoch(run, validation, logger)
            elif self.config.train.save_steps and self.step % self.config.train.save_steps == 0:
                self.save(run, logger)
        if self.group.first:  # again when nothing was left to do: a kill may have come between state and weights
            save_model(self.best_guess, run / "last.safetensors")

    def steps(self) -> Iterator[dict[str, float]]:
        """Run the steps that are left, and yield the record of each: losses, rate, gradient norm, seconds."""
        batches = load_batches(self.config, self.scans, self.plan, self.step)
        start = time.perf_counter()
        for parts in batches:
            loaded = time.perf_counter()
            record = self.train_step(parts)
            end = time.perf_counter()
            record |= {"data_seconds": round(loaded - start, 4), "seconds": round(end - start, 4)}
            self.totals = {name: self.totals.get(name, 0.0) + value for name, value in record.items()}
            yield record
            start = time.perf_counter()

    def train_step(self, parts: Sequence[PointBatch]) -> dict[str, float]:
        """One step of the optimiser on this process' parts of a batch."""
        self.network.train()
        rate = learning_rate(self.config.train, self.step, self.plan.steps_per_epoch)
        set_rate(self.optimizer, rate)
        self.guard.remember()
        self.optimizer.zero_grad(set_to_none=True)
        losses = self.backward(parts)
        with self.watch.stage("optimizer"):
            norm = self.clipped_norm()
            overflow = self.scaler.is_enabled() and not math.isfinite(norm) and self.scaler.get_scale() > 1
            if self.guard.passes(losses["loss"], 0.0 if overflow else norm, self.names_of_step):
                self.scaler.step(self.optimizer)  # which skips an overflow itself
                if self.average is not None:
                    follow(self.average, self.model, self.config.train.ema)
            self.scaler.update()
        self.step += 1
        return {**losses, "lr": rate, "grad_norm": norm}

    def backward(self, parts: Sequence[PointBatch]) -> dict[str, float]:
        """Gradients of the loss over the whole batch, the parts of all processes; returns its terms."""
        sizes = self.whole_sizes(parts)
        total: Tensor | None = None
        for index, part in enumerate(parts):
            with self.watch.stage("to device"):
                batch = part.to(self.group.device)
            with self.own_gradients(last=index == len(parts) - 1):
                with self.watch.stage("forward and loss"):
                    losses = self.network(batch, sizes)
                with self.watch.stage("backward"):
                    # processes average their gradients, but their losses are to be added up
                    self.scaler.scale(losses["loss"] * self.group.count).backward()
            values = torch.stack([value.detach() for value in losses.values()])
            total = values if total is None else total + values
        assert total is not None
        return dict(zip(losses, self.group.sum(total).tolist()))

    def whole_sizes(self, parts: Sequence[PointBatch]) -> LossSizes:
        """What the losses of a step are divided by."""
        targets = [target for part in parts for target in part.targets or ()]
        own = LossSizes.of(targets, self.config.model.decoder.num_queries, self.config.model.loss)
        sizes = torch.tensor(astuple(own), dtype=torch.float64, device=self.group.device)
        return LossSizes(*self.group.sum(sizes).tolist())

    def own_gradients(self, *, last: bool) -> AbstractContextManager[None]:
        """Gradients stay with their process until the last part of a step."""
        if last or not isinstance(self.network, DistributedDataParallel):
            return nullcontext()
        kept: AbstractContextManager[None] = self.network.no_sync()
        return kept

    def clipped_norm(self) -> float:
        """Norm of the gradient of all parameters, before it is clipped."""
        self.scaler.unscale_(self.optimizer)
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if self.config.train.grad_clip > 0:
            nn.utils.clip_grads_with_norm_(parameters, self.config.train.grad_clip, norm)
        return float(norm)

    def names_of_step(self) -> list[str]:
        """The scans that the current step sees."""
        return [self.scans.paths[index].name for _, index in self.plan.scans_of(self.step)]

    def end_epoch(self, run: Path, validation: ScanDataset, logger: Logger) -> None:
        """Log the means of an epoch, and evaluate and save when it is time to."""
        epoch, train = self.step // self.plan.steps_per_epoch, self.config.train
        seconds, waited = (round(self.totals.pop(name), 2) for name in ("seconds", "data_seconds"))
        means = {name: value / self.plan.steps_per_epoch for name, value in self.totals.items()}
        self.totals = {}
        logger.write("train", self.step, {"epoch": epoch, "seconds": seconds, "data_seconds": waited, **means})
        self.say(f"epoch {epoch}/{train.epochs}  loss {means['loss']:.3f}  lr {means['lr']:.2e}  {seconds:.0f} s")
        last = epoch == train.epochs
        if last or epoch % train.eval_every == 0:
            self.evaluate(run, validation, logger, epoch)
        if last or epoch % train.save_every == 0:
            self.save(run, logger)

    def evaluate(self, run: Path, validation: ScanDataset, logger: Logger, epoch: int) -> None:
        """AP on the validation scans; the best weights so far are kept."""
        scans = score_scans(self.best_guess, validation, self.group)
        result = merge_folds(scans).result()
        logger.write("val", self.step, {"epoch": epoch, **result.to_dict()})
        logger.write("val_scans", self.step, {"epoch": epoch, "ap50": {
            path.name: scan.result().ap50 for path, scan in zip(validation.paths, scans)}})
        self.say(f"epoch {epoch}: " + (result.table() if math.isnan(result.ap) else
                                       f"AP {result.ap:.3f}  AP50 {result.ap50:.3f}  AP25 {result.ap25:.3f}"))
        if not result.ap50 <= self.best:  # also when it is NaN: a data set without truth still ends with a best checkpoint
            self.best = result.ap50
            if self.group.first:
                save_model(self.best_guess, run / "best.safetensors")

    @property
    def best_guess(self) -> Relation3D:
        """The network to evaluate and to keep: the averaged one, if there is one."""
        return self.model if self.average is None else self.average

    def save(self, run: Path, logger: Logger) -> None:
        """Save the training state, then the weights."""
        state = self.state_dict() | {"log_size": logger.size}
        if self.group.first:
            save_state(run, self.step, state, self.config.train.keep)
            save_model(self.best_guess, run / "last.safetensors")

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which any process of the run goes on to the same bits."""
        return {
            "version": __version__, "step": self.step, "best": self.best, "totals": self.totals, "skipped": self.guard.skipped,
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "random": self.group.gather(random_state(self.group.device))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; with another number of processes, their random numbers are not those of the run before."""
        self.step, self.best, self.totals, self.guard.skipped = (state[key] for key in ("step", "best", "totals", "skipped"))
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if len(state["random"]) == self.group.count:
            set_random_state(state["random"][self.group.rank], self.group.device)
        self.say(f"resumed at step {self.step}/{self.plan.steps}")

    def start_from(self, weights: str | Path) -> None:
        """Take the weights of another network, and say where its config differs."""
        for difference in load_into(self.model, weights):
            self.say(f"note: model.{difference}")
        if self.average is not None:
            self.average.load_state_dict(self.model.state_dict())

    def say(self, line: str) -> None:
        """Print a line, once for all processes."""
        if self.group.first:
            print(line, flush=True)


class TrainedNetwork(nn.Module):
    """Network and loss as one module: DistributedDataParallel sees which parameters a loss depends on."""

    def __init__(self, model: Relation3D, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.criterion = Criterion(model.config.loss, len(model.config.classes))

    def forward(self, batch: PointBatch, sizes: LossSizes) -> dict[str, Tensor]:
        assert batch.targets is not None
        losses: dict[str, Tensor] = self.criterion(forward_in(self.model, batch, self.dtype), batch.targets, sizes)
        return losses


def spread(network: TrainedNetwork, group: Processes) -> nn.Module:
    """The network on all processes: gradients are averaged, norms see the whole batch."""
    if group.count == 1:
        return network
    synchronise_norms(network)
    # a process whose scans have no instance has no gradient for some heads
    return DistributedDataParallel(network, find_unused_parameters=True)


def use_deterministic(wanted: bool) -> None:
    """Ask torch for the same bits in every run; raises in an op that cannot."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
