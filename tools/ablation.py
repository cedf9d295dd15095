"""What each part of Relation3D is worth: equal training of every variant on frozen features, several seeds, AP with its spread.

``python tools/ablation.py RUN`` writes a line for each run to RUN/results.jsonl, goes on where it stopped, and prints the
table of docs/results.md. Training everything from nothing takes hours a run on two cores. So here the backbone of the weights
that ship, which has seen all parts at work, makes the features of every scan once; what reads them (pooling, a small decoder,
heads) begins from random weights and sees each scan in one augmented form.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pc3d.config import ExperimentConfig, load_config
from pc3d.data import Sample, ScanDataset, TrainingSamples, collate
from pc3d.engine.distributed import processes
from pc3d.engine.evaluate import evaluate_model
from pc3d.engine.optimizer import averaged, follow, make_optimizer, set_rate
from pc3d.engine.run import open_data
from pc3d.engine.schedule import learning_rate
from pc3d.losses import Criterion
from pc3d.models import Relation3D, build, load_model
from pc3d.progress import track

NO_ASAM, NO_CLSR, NO_RSA = ("decoder.asam=false",), ("decoder.clsr=false", "loss.contrastive=0"), ("decoder.rsa=false",)

#: The rows of the paper's ablation, then each quirk of its code on its own that training can feel, as overrides of ``model``.
VARIANTS: dict[str, tuple[str, ...]] = {
    "baseline": (*NO_ASAM, *NO_CLSR, *NO_RSA),
    "+ASAM": (*NO_CLSR, *NO_RSA),
    "+CLSR": (*NO_ASAM, *NO_RSA),
    "+RSA": (*NO_ASAM, *NO_CLSR),
    "all": (),
    "final_dice=sum": ("loss.final_dice=sum",),
    "contrastive_states=all": ("loss.contrastive_states=all",),
    "relation_labels=floor_mean": ("loss.relation_labels=floor_mean",),
    "unlabelled=one_instance": ("loss.unlabelled=one_instance",),
    "min_box_size=0": ("decoder.min_box_size=0",),
}

#: Quirks that only prediction feels, tried on the networks of "all".
PREDICTION = {"nms_area=superpoints": ("inference.nms_area=superpoints",), "score_decimals=1": ("inference.score_decimals=1",)}

SETTINGS = ("model.decoder.num_queries=50", "model.decoder.d_model=64", "model.decoder.d_ffn=128", "train.schedule=cosine",
            "train.lr=1e-3", "train.ema=0.99", "train.groups=[{prefix: backbone., lr: 0}]")


@dataclass
class Scans:
    """Samples in memory, and what a frozen backbone makes of each."""

    samples: list[Sample]
    features: list[Tensor]  # (V, C) of each sample

    @classmethod
    @torch.no_grad()
    def of(cls, config: ExperimentConfig, dataset: ScanDataset, backbone: Relation3D) -> Scans:
        """Every scan in the augmented form of the first epoch."""
        drawn = TrainingSamples(dataset, config)
        samples = [drawn[1, index] for index in track(range(len(dataset)), "features")]
        return cls(samples, [backbone.voxel_features(collate([sample], config.model.backbone)) for sample in samples])


def fit(config: ExperimentConfig, model: Relation3D, scans: Scans) -> Relation3D:
    """Train all of a network but its backbone; returns the averaged weights."""
    train, count = config.train, len(scans.samples)
    optimizer, average = make_optimizer(model, train), averaged(model)
    criterion = Criterion(config.model.loss, len(config.model.classes))
    steps = count // train.batch_size
    for step in track(range(steps * train.epochs), "train"):
        epoch, place = divmod(step, steps)
        order = np.random.default_rng([train.seed, epoch]).permutation(count)[place * train.batch_size:][:train.batch_size]
        batch = collate([scans.samples[index] for index in order], config.model.backbone)
        features = torch.cat([scans.features[index] for index in order])
        model.train()
        model.voxel_features = lambda _, features=features: features  # type: ignore[method-assign, misc]
        set_rate(optimizer, learning_rate(train, step, steps))
        optimizer.zero_grad()
        criterion(model(batch), batch.targets)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip)
        optimizer.step()
        follow(average, model, train.ema)
    return average


def run_once(config: ExperimentConfig, scans: Scans, backbone: Relation3D) -> Relation3D:
    """A network of this config with the backbone's weights, trained."""
    torch.manual_seed(config.train.seed)
    model = build(config.model)
    model.backbone.load_state_dict(backbone.backbone.state_dict())
    return fit(config, model, scans)


def score(model: Relation3D, validation: ScanDataset, overrides: Iterable[str] = ()) -> dict[str, float]:
    """AP on the validation scans, in percent."""
    model.config = model.config.with_overrides(overrides)
    with processes("cpu") as group:
        result = evaluate_model(model.eval(), validation, group)
    return {name: round(100 * getattr(result, name), 2) for name in ("ap", "ap50", "ap25")}


def ablate(run: Path, config: ExperimentConfig, variants: Sequence[str], seeds: Sequence[int]) -> None:
    """Run what is missing in RUN/results.jsonl, seed by seed."""
    run.mkdir(parents=True, exist_ok=True)
    results = run / "results.jsonl"
    scans, validation, config = open_data(config)
    backbone = load_model("relation3d-synth").eval()
    data: dict[str, Scans] = {}
    for seed in seeds:
        for name in variants:
            if any((row["variant"], row["seed"]) == (name, seed) for row in read_rows(results)):
                continue
            own = config.with_overrides([*(f"model.{line}" for line in VARIANTS[name]), f"train.seed={seed}"])
            kind = own.model.loss.relation_labels
            if kind not in data:
                data = {kind: Scans.of(own, scans, backbone)}
            start = time.perf_counter()
            model = run_once(own, data[kind], backbone)
            seconds = round(time.perf_counter() - start)
            extra = PREDICTION if name == "all" else {}
            with results.open("a") as file:
                for label, overrides in {name: (), **extra}.items():
                    row = {"variant": label, "seed": seed, **score(model, validation, overrides), "seconds": seconds}
                    print(json.dumps(row), file=file, flush=True)


def read_rows(results: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def table(rows: Sequence[dict[str, object]]) -> Iterable[str]:
    """Mean of the seeds and, behind ±, half of what lies between the least and the greatest."""
    yield "| variant | AP | AP50 | AP25 | seeds |\n| --- | --- | --- | --- | --- |"
    for name in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == name]
        cells = [np.array([row[key] for row in own], dtype=float) for key in ("ap", "ap50", "ap25")]
        yield f"| {name} | {' | '.join(f'{c.mean():.1f} ± {np.ptp(c) / 2:.1f}' for c in cells)} | {len(own)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", default="data/synth", help="synthetic rooms, train and val")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the config")
    options = parser.parse_args()
    config = load_config(Path(__file__).parents[1] / "configs/relation3d_synth.yaml", [
        f"data.root={options.data}", f"train.epochs={options.epochs}", *SETTINGS, *options.set])
    ablate(options.run, config, options.variants, range(1, options.seeds + 1))
    print("\n".join(table(read_rows(options.run / "results.jsonl"))))


if __name__ == "__main__":
    main()
