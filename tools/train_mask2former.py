"""Train the small Mask2Former that ships with pc3d on frames of synthetic rooms, on a CPU.

``python tools/train_mask2former.py RUN`` draws training rooms, keeps their frames in RUN/frames, trains, and leaves the model
in RUN/model, half precision, as ``pc3d lift --segmenter mask2former:RUN/model`` reads it. Started again, it goes on from its
last training state, to the same bits. Architecture and loss are transformers' (Cheng et al., CVPR 2022), weights random.

The first steps see frames at half size: as many frames cost a quarter, and what they teach carries over.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from pc3d.engine.state import newest_state, save_state
from pc3d.io.files import atomic_file
from pc3d.lift.segmenters import UniversalSegmenter
from pc3d.structures import Camera, Frame
from pc3d.synth import SCANNET_CLASSES, ScannerConfig, make_room
from pc3d.synth.dataset import KINDS, SPLITS
from pc3d.synth.furniture import Stock
from pc3d.synth.models import ModelLibrary
from pc3d.synth.scanner import virtual_views

SCANNER = ScannerConfig(stations=6, views=4)
VAL_SEED = 20_000       # of the rooms that training is watched on; those of the reported figures begin at 10,000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Stage(NamedTuple):
    """A part of the training, until a share of the steps: size and number of frames a step, and the largest zoom."""

    until: float
    size: tuple[int, int]
    batch: int
    zoom: float


STAGES = (Stage(0.7, (96, 128), 16, 1.8), Stage(1.0, (192, 256), 8, 1.4))


@dataclass(frozen=True)
class Options:
    """A training run; its fields are the options of the command line."""

    run: Path
    rooms: int = 160
    val_rooms: int = 4
    steps: int = 1600
    lr: float = 5e-4
    warmup: int = 100
    decay: float = 0.05
    clip: float = 1.0
    seed: int = 0
    first_seed: int = 0         # of the training rooms
    every: int = 400            # steps between training states
    models: Path | None = None  # a folder of furniture catalogues: half of the rooms have real models in them
    init: Path | None = None    # a model folder to start from


# ---------------------------------------------------------------------------------------------------- frames


def room_frames(seed: int, split: str, models: ModelLibrary | None) -> NDArray[np.uint8]:
    """Frames (F, H, W, 5) of one room: red, green, blue, class + 1 and instance + 1 of each pixel (0: none)."""
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    stock = Stock(split != "train", models if seed // len(KINDS) % 2 else None)
    room = make_room(rng, kind=KINDS[seed % len(KINDS)], stock=stock)
    views = virtual_views(room, rng, SCANNER)
    return np.stack([np.dstack([view.frame.rgb, view.labels + 1, view.instances + 1]).astype(np.uint8) for view in views])


def read_rooms(folder: Path, seeds: range, split: str, models: Path | None) -> list[NDArray[np.uint8]]:
    """The frames of each room, mapped from files that are made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    library = ModelLibrary(models) if models else None
    rooms = []
    for seed in seeds:
        path = folder / f"{split}{seed:06d}{'m' if models else ''}.npy"
        if not path.is_file():
            with atomic_file(path) as file:
                np.save(file, room_frames(seed, split, library))
        rooms.append(np.load(path, mmap_mode="r"))
    return rooms


class Example(NamedTuple):
    """One frame as the network is taught it."""

    pixels: torch.Tensor    # (3, h, w) normalised
    masks: torch.Tensor     # (K, h, w) of 0 and 1
    labels: torch.Tensor    # (K,)


def make_example(frame: NDArray[np.uint8], stage: Stage, rng: np.random.Generator) -> Example:
    """A random window of a frame (H, W, 5), resized, perhaps mirrored, in other colours; specks are no targets."""
    window = cropped(frame, stage.zoom, rng)
    window = window[:, ::-1] if rng.random() < 0.5 else window
    planes = torch.tensor(window.copy()).permute(2, 0, 1)[None].float()
    rgb = interpolate(planes[:, :3], stage.size, mode="bilinear", antialias=True, align_corners=False)[0] / 255
    classes, ids = interpolate(planes[:, 3:], stage.size, mode="nearest-exact")[0].long()
    numbers, areas = torch.unique(ids, return_counts=True)
    numbers = numbers[(numbers > 0) & (areas >= ids.numel() // 1000)]
    masks = ids == numbers[:, None, None]
    labels = torch.tensor([int(classes[mask][0]) - 1 for mask in masks], dtype=torch.int64)
    return Example(normalised(recoloured(rgb, rng)), masks.float(), labels)


def cropped(frame: NDArray[np.uint8], zoom: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A window of the frame, smaller by up to ``zoom`` and a little wider or narrower."""
    scale, aspect = rng.uniform(1, zoom), np.exp(rng.uniform(-0.1, 0.1))
    height, width = (min(side, round(side / scale * stretch)) for side, stretch in zip(frame.shape, (aspect, 1 / aspect)))
    top, left = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(frame.shape, (height, width)))
    return frame[top : top + height, left : left + width]


def recoloured(rgb: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Other light: gain of each channel, saturation, contrast, gamma."""
    gain = torch.tensor(rng.uniform(0.85, 1.15, (3, 1, 1)) * rng.uniform(0.8, 1.2), dtype=torch.float32)
    grey = rgb.mean(0, keepdim=True)
    rgb = (grey + (rgb - grey) * rng.uniform(0.6, 1.4)) * gain
    mean = rgb.mean()
    return (mean + (rgb - mean) * rng.uniform(0.75, 1.25)).clamp(0, 1) ** rng.uniform(0.8, 1.25)


def normalised(rgb: torch.Tensor) -> torch.Tensor:
    return (rgb - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)


def make_batch(rooms: list[NDArray[np.uint8]], stage: Stage, rng: np.random.Generator) -> list[Example]:
    """Examples of one step, each from a room of its own draw."""
    drawn = [rooms[int(rng.integers(len(rooms)))] for _ in range(stage.batch)]
    return [make_example(room[int(rng.integers(len(room)))], stage, rng) for room in drawn]


# ---------------------------------------------------------------------------------------------------- network


def build_model() -> Any:
    """A Mask2Former of 3.3 million parameters on a ResNet of basic blocks, for frames of 256 x 192."""
    import transformers

    transformers.logging.set_verbosity_error()      # that only Swin was tried as a backbone, at every start
    warnings.filterwarnings("ignore", message=".*embed_dim", module="transformers")
    backbone = transformers.ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[2, 2, 2, 2],
                                         layer_type="basic", out_features=["stage1", "stage2", "stage3", "stage4"])
    width = 96
    return transformers.Mask2FormerForUniversalSegmentation(transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=width, mask_feature_size=width, hidden_dim=width, encoder_layers=1,
        encoder_feedforward_dim=2 * width, decoder_layers=3, dim_feedforward=4 * width, num_attention_heads=4, dropout=0.0,
        num_queries=40, train_num_points=512, id2label=dict(enumerate(SCANNET_CLASSES))))


def save_model(model: Any, folder: Path) -> None:
    """The model in half precision, and how it wants its images."""
    half = build_model()
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)
    height, width = STAGES[-1].size
    settings = {"size": {"height": height, "width": width}, "size_divisor": 32, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=1) + "\n")


class Trainer:
    """A model in training: what one step does to it, and what must be kept to go on."""

    def __init__(self, options: Options, rooms: list[NDArray[np.uint8]]) -> None:
        torch.manual_seed(options.seed)
        self.options, self.rooms, self.step = options, rooms, 0
        self.model = build_model()
        if options.init:
            self.model.load_state_dict(UniversalSegmenter("mask2former", str(options.init)).checkpoint.model.state_dict())
        groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for parameter in self.model.parameters():
            groups[parameter.dim() > 1].append(parameter)
        self.optimizer = torch.optim.AdamW([{"params": groups[True]}, {"params": groups[False], "weight_decay": 0.0}],
                                           lr=options.lr, weight_decay=options.decay)

    def steps(self) -> Iterator[dict[str, float]]:
        """Run the steps that are left; a step depends on the seed and its number alone, so that a stopped run can go on."""
        self.model.train()
        while self.step < self.options.steps:
            stage = next(one for one in STAGES if self.step < one.until * self.options.steps)
            torch.manual_seed(self.options.seed * 1_000_003 + self.step)    # of the points that the loss is taken at
            rate = self.rate()
            batch = make_batch(self.rooms, stage, np.random.default_rng([self.options.seed, self.step]))
            loss, norm = self.train_step(batch, rate)
            self.step += 1
            yield {"step": self.step, "loss": loss, "grad_norm": norm, "lr": rate}

    def rate(self) -> float:
        """Learning rate of the step: warm-up, then half a cosine."""
        share = self.step / self.options.steps
        return self.options.lr * min(1, (self.step + 1) / self.options.warmup) * (1 + math.cos(math.pi * share)) / 2

    def train_step(self, batch: list[Example], rate: float) -> tuple[float, float]:
        """One step of the optimiser; returns the loss and the norm of its gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.model(pixel_values=torch.stack([one.pixels for one in batch]), mask_labels=[one.masks for one in batch],
                          class_labels=[one.labels for one in batch]).loss.sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        return float(loss.detach()), float(norm)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


# ---------------------------------------------------------------------------------------------------- validation


def panoptic_quality(segmenter: UniversalSegmenter, rooms: list[NDArray[np.uint8]]) -> dict[str, float]:
    """Panoptic quality of the masks of whole frames (Kirillov et al., CVPR 2019), class-agnostic: sum of IoU over matches above
    0.5 / (matches + half of what is left on both sides); and the share of matches with the right class.
    """
    ious: list[float] = []
    found = true = right = 0
    for frame in (frame for room in rooms for frame in room):
        masks = segmenter(_frame(frame[..., :3]))
        height, width = masks.ids.shape[1:]
        truth = interpolate(torch.tensor(frame[..., 3:]).permute(2, 0, 1)[None].float(), (height, width), mode="nearest-exact")
        classes, ids = truth[0].long().numpy()
        table = np.zeros((256, len(masks) + 1), np.int64)
        np.add.at(table, (ids, masks.ids[0]), 1)
        iou = table / np.maximum(table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table, 1)
        rows, columns = np.nonzero(iou[1:, 1:] > 0.5)
        ious += iou[rows + 1, columns + 1].tolist()
        right += sum(int(classes[ids == row + 1][0]) - 1 == masks.labels[column] for row, column in zip(rows, columns))
        found, true = found + len(masks), true + int((table.sum(1)[1:] > 0).sum())
    matches = len(ious)
    return {"pq": sum(ious) / max((found + true) / 2, 1), "precision": matches / max(found, 1),
            "recall": matches / max(true, 1), "right_class": right / max(matches, 1)}


def _frame(rgb: NDArray[np.uint8]) -> Frame:
    height, width = rgb.shape[:2]
    camera = Camera(width, height, width, width, width / 2, height / 2)
    return Frame("", camera, camera, np.eye(4), lambda: np.array(rgb), None)


def train(options: Options) -> Path:
    """Train, or go on; returns the folder of the model."""
    options.run.mkdir(parents=True, exist_ok=True)
    read = partial(read_rooms, options.run / "frames", models=options.models)
    first = options.first_seed
    rooms = read(range(first, first + options.rooms), "train")
    held_out = read(range(VAL_SEED, VAL_SEED + options.val_rooms), "val")
    trainer = Trainer(options, rooms)
    if (state := newest_state(options.run)) is not None:
        trainer.load_state_dict(state)
    folder, started, losses = options.run / "model", time.process_time(), []
    for record in trainer.steps():
        losses.append(record["loss"])
        last = trainer.step == options.steps
        if last or trainer.step % 50 == 0:
            record |= {"loss": sum(losses) / len(losses), "cpu_seconds": round(time.process_time() - started, 1)}
            losses.clear()
            report(options, record)
        if last or trainer.step % options.every == 0:
            save_model(trainer.model, folder)
            quality = panoptic_quality(UniversalSegmenter("mask2former", str(folder)), held_out)
            report(options, {"step": trainer.step, **quality})
            save_state(options.run, trainer.step, trainer.state_dict(), keep=2)
    return folder


def report(options: Options, record: dict[str, float]) -> None:
    """A line on the terminal and in RUN/metrics.jsonl."""
    line = json.dumps({name: round(value, 6) for name, value in record.items()})
    print(line, flush=True)
    with (options.run / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")


def main() -> None:
    defaults = Options(Path())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    for name in ("rooms", "val_rooms", "steps", "lr", "warmup", "decay", "clip", "seed", "first_seed", "every"):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    for name in ("models", "init"):
        parser.add_argument(f"--{name}", type=Path)
    print(f"the model is in {train(replace(defaults, **vars(parser.parse_args())))}")


if __name__ == "__main__":
    main()
