"""Training on one process: the paper's augmentation, AdamW, poly schedule, checkpoints and evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from pc3d.config import ExperimentConfig, write_yaml
from pc3d.data import Sample, ScanDataset, TrainingSamples, collate
from pc3d.engine.device import choose_device
from pc3d.engine.evaluate import evaluate_model
from pc3d.engine.progress import MetricsLog
from pc3d.errors import DataError, FileError, explain
from pc3d.losses import Criterion
from pc3d.models import Relation3D, build, load_into, save_model
from pc3d.progress import track
from pc3d.structures import PointBatch


class Shuffle(Sampler[tuple[int, int]]):
    """Keys (epoch, index) of one epoch in an order that follows from seed and epoch.

    The epoch travels with the key, so that loader workers live through all epochs and need not be told.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 1

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        return iter([(self.epoch, int(index)) for index in order])


@dataclass
class Trainer:
    """What a training run holds between epochs."""

    config: ExperimentConfig
    model: Relation3D
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    shuffle: Shuffle
    loader: DataLoader[Sample]
    device: torch.device
    log: MetricsLog
    steps: int = 0

    def batches(self, epoch: int) -> Iterator[PointBatch]:
        """Shuffled batches of one epoch; an incomplete last one is dropped, as in the paper, unless it is the only one."""
        self.shuffle.epoch = epoch
        for batch in track(self.loader, f"epoch {epoch}/{self.config.train.epochs}"):
            yield batch.to(self.device)

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch; return the mean of each loss term and the time it took (seconds)."""
        start = time.perf_counter()
        lr = poly_lr(self.config.train.lr, epoch, self.config.train.epochs, self.config.train.poly_power)
        self.model.train()
        terms = [self.step(batch, lr) for batch in self.batches(epoch)]
        means = {name: sum(t[name] for t in terms) / len(terms) for name in terms[0]}
        record = {"epoch": epoch, "lr": lr, "seconds": round(time.perf_counter() - start, 2), **means}
        self.log.write("train", record)
        return record

    def step(self, batch: PointBatch, lr: float) -> dict[str, float]:
        """One optimiser step on one batch at (at most) this learning rate; return its loss terms."""
        self.steps += 1
        for group in self.optimizer.param_groups:
            group["lr"] = lr * min(1.0, self.steps / max(self.config.train.warmup_steps, 1))
        assert batch.targets is not None
        losses = self.criterion(self.model(batch), batch.targets)
        if not torch.isfinite(losses["loss"]):
            terms = {name: value.item() for name, value in losses.items() if not torch.isfinite(value)}
            raise DataError(explain("the training loss is not finite", got=str(terms),
                                    do="Lower train.lr or set train.grad_clip=10."))
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        if self.config.train.grad_clip > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.grad_clip)
        self.optimizer.step()
        return {name: value.item() for name, value in losses.items()}


def poly_lr(lr: float, epoch: int, epochs: int, power: float) -> float:
    """Learning rate of an epoch (1-based): ``lr * (1 - (epoch - 1) / epochs) ** power``."""
    return lr * (1 - (epoch - 1) / epochs) ** power


def make_trainer(config: ExperimentConfig, scans: ScanDataset, run: Path) -> Trainer:
    """Build network, loss and optimiser of a run; ``train.init`` names weights to start from."""
    torch.manual_seed(config.train.seed)
    device = choose_device(config.train.device)
    model = build(config.model).to(device)
    if config.train.init is not None:
        for difference in load_into(model, config.train.init):
            print(f"note: model.{difference}", flush=True)
    criterion = Criterion(config.model.loss, len(config.model.classes)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.train.lr, weight_decay=config.train.weight_decay)
    shuffle = Shuffle(len(scans), config.train.seed)
    loader = DataLoader(
        TrainingSamples(scans, config), batch_size=min(config.train.batch_size, len(scans)), sampler=shuffle, drop_last=True,
        num_workers=config.data.workers, persistent_workers=config.data.workers > 0,
        collate_fn=partial(collate, backbone=config.model.backbone))
    return Trainer(config, model, criterion, optimizer, shuffle, loader, device, MetricsLog(run))


def make_run_folder(config: ExperimentConfig) -> Path:
    """Make the folder of a run and write its config; one that holds a run already is refused."""
    run = Path(config.train.output)
    if (run / "metrics.jsonl").exists():
        raise FileError(explain("this folder holds a run already", where=run,
                                do="Choose another train.output, or remove the folder."))
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_yaml(config, run / "config.yaml")
    except OSError as error:
        raise FileError(explain("cannot write the run folder", where=run, got=error.strerror)) from error
    return run


def train(config: ExperimentConfig) -> Path:
    """Train as configured; return the run folder with config.yaml, metrics.jsonl, last and best checkpoints."""
    scans = ScanDataset(config.data.root, config.data.train_split)
    validation = ScanDataset(config.data.root, config.data.val_split)
    config = config.model_copy(update={"model": config.model.model_copy(update={"classes": scans.classes})})
    run = make_run_folder(config)
    trainer = make_trainer(config, scans, run)
    best = -1.0
    for epoch in range(1, config.train.epochs + 1):
        record = trainer.run_epoch(epoch)
        print(f"epoch {epoch}/{config.train.epochs}  loss {record['loss']:.3f}  lr {record['lr']:.2e}  "
              f"{record['seconds']:.0f} s", flush=True)
        last = epoch == config.train.epochs
        if last or epoch % config.train.save_every == 0:
            save_model(trainer.model, run / "last.safetensors")
        if last or epoch % config.train.eval_every == 0:
            result = evaluate_model(trainer.model, validation, device=str(trainer.device))
            trainer.log.write("val", {"epoch": epoch, **result.to_dict()})
            print(f"epoch {epoch}: AP {result.ap:.3f}  AP50 {result.ap50:.3f}  AP25 {result.ap25:.3f}", flush=True)
            if not result.ap50 <= best:  # also when it is NaN: a data set without truth still ends with a best checkpoint
                best = result.ap50
                save_model(trainer.model, run / "best.safetensors")
    return run
