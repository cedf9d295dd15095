"""Training on one process: the paper's augmentation, AdamW, poly schedule, checkpoints and evaluation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pc3d.config import ExperimentConfig, write_yaml
from pc3d.data import Sample, ScanDataset, collate, make_sample
from pc3d.engine.device import choose_device
from pc3d.engine.evaluate import evaluate_model
from pc3d.engine.progress import MetricsLog, track
from pc3d.errors import DataError, explain
from pc3d.losses import Criterion
from pc3d.models import Relation3D, build, load_model, save_model
from pc3d.structures import PointBatch


class TrainingSamples(Dataset[Sample]):
    """Augmented samples; the randomness of each follows from (seed, epoch, index) alone."""

    def __init__(self, scans: ScanDataset, config: ExperimentConfig) -> None:
        self.config = config
        self.epoch = 0
        self.num_scans = len(scans)
        self._scan = lru_cache(maxsize=256)(scans.__getitem__)

    def __len__(self) -> int:
        return self.num_scans

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.config.train.seed, self.epoch, index])
        return make_sample(self._scan(index), self.config.model, augment=self.config.augment,
                           max_points=self.config.data.max_points, rng=rng)


@dataclass
class Trainer:
    """What a training run holds between epochs."""

    config: ExperimentConfig
    model: Relation3D
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    samples: TrainingSamples
    device: torch.device
    log: MetricsLog
    steps: int = 0

    def batches(self, epoch: int) -> Iterator[PointBatch]:
        """Shuffled batches of one epoch; an incomplete last one is dropped, as in the paper, unless it is the only one."""
        self.samples.epoch = epoch
        train = self.config.train
        loader = DataLoader(
            self.samples, batch_size=min(train.batch_size, len(self.samples)), shuffle=True, drop_last=True,
            num_workers=self.config.data.workers, collate_fn=partial(collate, backbone=self.config.model.backbone),
            generator=torch.Generator().manual_seed(train.seed + epoch))
        for batch in track(loader, f"epoch {epoch}/{train.epochs}"):
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
    model = build(config.model) if config.train.init is None else load_model(config.train.init)
    model = model.to(device)
    criterion = Criterion(config.model.loss, len(config.model.classes)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.train.lr, weight_decay=config.train.weight_decay)
    return Trainer(config, model, criterion, optimizer, TrainingSamples(scans, config), device, MetricsLog(run))


def train(config: ExperimentConfig) -> Path:
    """Train as configured; return the run folder with config.yaml, metrics.jsonl, last and best checkpoints."""
    scans = ScanDataset(config.data.root, config.data.train_split)
    validation = ScanDataset(config.data.root, config.data.val_split)
    config = config.model_copy(update={"model": config.model.model_copy(update={"classes": scans.classes})})
    run = Path(config.train.output)
    run.mkdir(parents=True, exist_ok=True)
    write_yaml(config, run / "config.yaml")
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
            if result.ap50 > best:
                best = result.ap50
                save_model(trainer.model, run / "best.safetensors")
    return run
