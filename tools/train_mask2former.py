"""Train the small Mask2Former that ships with pc3d on frames of synthetic rooms, on a CPU.

``python tools/train_mask2former.py RUN`` draws training rooms, keeps their frames in RUN/frames, trains, and leaves the model
in RUN/model, half precision, as ``pc3d lift --segmenter mask2former:RUN/model`` reads it. Started again, it goes on from its
last training state, to the same bits. The architecture is transformers' (Cheng et al., CVPR 2022), weights random at the start;
the losses are in mask2former_loss.py. What is kept is the running average of the weights.

The first steps see frames at half size: as many frames cost a quarter, and what they teach carries over.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

sys.path.append(str(Path(__file__).resolve().parent))

from mask2former_loss import DenseHead, Example, Targets, make_targets, set_loss

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
MASKS = {"score": 0.2, "overlap": 0.6}      # a small network is seldom sure of a class; 3D has the word of many frames
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Stage(NamedTuple):
    """A part of the training, until a share of the steps: size and number of frames a step, and the largest zoom."""

    until: float
    size: tuple[int, int]
    batch: int
    zoom: float


STAGES = (Stage(0.85, (96, 128), 8, 1.8), Stage(1.0, (144, 192), 8, 1.5))


@dataclass(frozen=True)
class Options:
    """A training run; its fields are the options of the command line."""

    run: Path
    rooms: int = 480
    val_rooms: int = 4
    steps: int = 20_000
    lr: float = 1e-3
    warmup: int = 100
    decay: float = 0.05
    clip: float = 5.0
    average: float = 0.998      # of the running average of the weights
    bfloat16: bool = False      # convolutions in half precision, faster where the processor knows it (avx512_bf16, amx)
    seed: int = 0
    first_seed: int = 0         # of the training rooms
    every: int = 500            # steps between training states
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
    """A Mask2Former of 3.1 million parameters on a ResNet of basic blocks, for frames of about 192 x 144."""
    import transformers

    transformers.logging.set_verbosity_error()      # that only Swin was tried as a backbone, at every start
    backbone = transformers.ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[2, 2, 2, 2],
                                         layer_type="basic", out_features=["stage1", "stage2", "stage3", "stage4"])
    width = 64
    model = transformers.Mask2FormerForUniversalSegmentation(transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=width, mask_feature_size=width, hidden_dim=width, encoder_layers=1,
        encoder_feedforward_dim=2 * width, decoder_layers=4, dim_feedforward=4 * width, num_attention_heads=4, dropout=0.0,
        num_queries=32, id2label=dict(enumerate(SCANNET_CLASSES))))
    for module in model.model.pixel_level_module.decoder.modules():
        if isinstance(module, nn.Conv2d):           # transformers' normal(0, 0.02) makes all masks alike for a long time
            nn.init.xavier_uniform_(module.weight)
    nn.init.constant_(model.class_predictor.bias[-1:], 2.0)     # most queries have no object
    return model


def save_model(model: Any, folder: Path, size: tuple[int, int]) -> None:
    """The model in half precision, and the size (h, w) that it wants its images in."""
    half = build_model()
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)
    settings = {"size": dict(zip(("height", "width"), size)), "size_divisor": 16, "image_mean": MEAN, "image_std": STD,
                "masks": MASKS}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=1) + "\n")


class Trainer:
    """A model in training: what one step does to it, and what must be kept to go on."""

    PARTS = ("model", "head", "average", "optimizer")

    def __init__(self, options: Options, rooms: list[NDArray[np.uint8]]) -> None:
        torch.manual_seed(options.seed)
        self.options, self.rooms, self.step = options, rooms, 0
        self.model = build_model()
        self.head = DenseHead(self.model.config.mask_feature_size, len(SCANNET_CLASSES))
        if options.init:
            self.model.load_state_dict(UniversalSegmenter("mask2former", str(options.init)).checkpoint.model.state_dict())
        self.average = copy.deepcopy(self.model)
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in [*self.model.named_parameters(), *self.head.named_parameters()]:
            groups[parameter.dim() > 1 and "embed" not in name].append(parameter)
        self.parameters = groups[True] + groups[False]
        self.optimizer = torch.optim.AdamW([{"params": groups[True]}, {"params": groups[False], "weight_decay": 0.0}],
                                           lr=options.lr, weight_decay=options.decay, fused=True)

    def steps(self) -> Iterator[dict[str, float]]:
        """Run the steps that are left; a step depends on the seed and its number alone, so that a stopped run can go on."""
        self.model.train()
        while self.step < self.options.steps:
            rate = self.rate()
            batch = make_batch(self.rooms, self.stage(), np.random.default_rng([self.options.seed, self.step]))
            record = self.train_step(batch, rate)
            self.step += 1
            yield {"step": self.step, **record, "lr": rate}

    def stage(self) -> Stage:
        """The stage of the step, the last one at the end."""
        return next((one for one in STAGES if self.step < one.until * self.options.steps), STAGES[-1])

    def rate(self) -> float:
        """Learning rate of the step: warm-up, then even, and down to nothing over the last third."""
        left = 1 - self.step / self.options.steps
        return self.options.lr * min(1, (self.step + 1) / self.options.warmup, 3 * left)

    def train_step(self, batch: list[Example], rate: float) -> dict[str, float]:
        """One step of the optimiser; returns the losses and the norm of their gradient."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        queries, dense = self.losses(torch.stack([one.pixels for one in batch]), make_targets(batch))
        self.optimizer.zero_grad(set_to_none=True)
        (queries + dense).backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.options.clip)
        self.optimizer.step()
        self.keep_average()
        return {"loss": float(queries.detach()), "dense_loss": float(dense.detach()), "grad_norm": float(norm)}

    def losses(self, pixels: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Losses of the queries of all layers, and of the dense head; pixels (B, 3, h, w)."""
        inner = self.model.model
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.bfloat16):
            levels = inner.pixel_level_module(pixels)
        features = levels.decoder_last_hidden_state.float()
        found = inner.transformer_module([one.float() for one in levels.decoder_hidden_states], features,
                                         output_hidden_states=True)
        classes = [self.model.class_predictor(one.transpose(0, 1)) for one in found.intermediate_hidden_states]
        masks = [one.flatten(2) for one in found.masks_queries_logits]
        return set_loss(torch.stack(classes), torch.stack(masks), targets), self.head(features, targets)

    @torch.no_grad()
    def keep_average(self) -> None:
        """Move the average towards the weights (and statistics of norms), by more in the first steps."""
        share = max(1 - self.options.average, 9 / (self.step + 10))
        for mean, value in zip(self.average.state_dict().values(), self.model.state_dict().values()):
            mean.lerp_(value, share) if mean.is_floating_point() else mean.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step} | {name: getattr(self, name).state_dict() for name in self.PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for name in self.PARTS:
            getattr(self, name).load_state_dict(state[name])


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
    folder, started = options.run / "model", time.process_time()
    records: list[dict[str, float]] = []
    for record in trainer.steps():
        records.append(record)
        last = trainer.step == options.steps
        if last or trainer.step % 50 == 0:
            record |= {name: float(np.mean([one[name] for one in records])) for name in ("loss", "dense_loss", "grad_norm")}
            report(options, record | {"cpu_seconds": round(time.process_time() - started, 1)})
            records.clear()
        if last or trainer.step % options.every == 0:
            save_model(trainer.average, folder, trainer.stage().size)
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
    for name in ("rooms", "val_rooms", "steps", "lr", "warmup", "decay", "clip", "average", "seed", "first_seed", "every"):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--bfloat16", action="store_true")
    for name in ("models", "init"):
        parser.add_argument(f"--{name}", type=Path)
    print(f"the model is in {train(replace(defaults, **vars(parser.parse_args())))}")


if __name__ == "__main__":
    main()
