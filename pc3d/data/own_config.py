"""A training config for a data set of one's own, from what is in it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import yaml

from pc3d.config import ExperimentConfig, build
from pc3d.data.preparation import MANIFEST, read_manifest
from pc3d.data.prepared import read_scene
from pc3d.errors import DataError, explain
from pc3d.io.files import atomic_file
from pc3d.ops import knn

STEPS = 20_000              # training steps that a small data set needs, as a rule of thumb
FINEST_VOXEL = 0.02         # metres
WIDEST_SPACING = 0.5        # metres; what lies farther apart shows no furniture


def write_own_config(root: Path) -> Path:
    """Write ``config.yaml`` beside the prepared scenes, unless there is one, and return its path.

    Raises DataError when there is nothing to train on.
    """
    path = root / "config.yaml"
    if path.exists():
        return path
    tree, reasons = derive(root)
    build(ExperimentConfig, tree, where=path)
    lines = ["# Made by pc3d prepare folder from the scans; yours to change: it is not written again while it is here.",
             *(f"# {key}: {reason}" for key, reason in reasons.items())]
    with atomic_file(path) as file:
        file.write(("\n".join(lines) + "\n" + yaml.safe_dump(tree, sort_keys=False)).encode())
    return path


def derive(root: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Keys of a config, and why each is what it is."""
    manifest = read_manifest(root)
    scenes: dict[str, Any] = manifest["scenes"]
    training = {key: record for key, record in scenes.items() if key.startswith("train/")}
    if not training:
        raise DataError(explain("there is no scan to train on", where=root / MANIFEST, expected="scans in train/"))
    validation = "val" if any(key.startswith("val/") for key in scenes) else "train"
    most = max(record["instances"] for record in scenes.values())
    if not most:
        raise DataError(explain("no scan has an instance", where=root / MANIFEST, do="Points of objects need a label that is a "
                                "class of the list, and an instance of 0 or more."))
    queries = min(400, max(50, 10 * -(-3 * most // 20)))
    spacing = _spacing(root / min(training, key=lambda key: training[key]["points"]))
    if spacing > WIDEST_SPACING:
        warnings.warn(explain(f"points lie {spacing:.3g} m apart", where=root, expected="scans in metres",
                              do="docs/formats.md says how one in centimetres or millimetres is scaled."), stacklevel=3)
    voxel = max(FINEST_VOXEL, round(1.5 * spacing, 3))
    epochs = min(512, max(50, 2 * STEPS // len(training)))
    tree = {"model": {"backbone": {"voxel_size": voxel}, "decoder": {"num_queries": queries},
                      "inference": {"topk": 2 * queries}, "loss": {"semantic": 1.0}},
            "data": {"root": str(root), "train_split": "train", "val_split": validation, "workers": 2},
            "train": {"output": f"runs/{root.resolve().name}", "epochs": epochs, "batch_size": min(2, len(training)),
                      "warmup_steps": 100, "grad_clip": 5.0, "eval_every": max(1, epochs // 16)}}
    reasons = {"model.decoder.num_queries": f"half again as many as the {most} instances of the fullest scan, 50 to 400",
               "model.backbone.voxel_size": f"metres; points lie {spacing:.3g} m apart, and 2 cm are fine enough",
               "train.epochs": f"about {STEPS} steps of two of the {len(training)} scans, 50 to 512 epochs"}
    if validation == "train":
        reasons["data.val_split"] = "there is no val/: figures will say how well the training scans are remembered"
    return tree, reasons


def _spacing(scene: Path) -> float:
    """Median distance in metres from a point to its nearest neighbour."""
    xyz = torch.from_numpy(read_scene(scene).xyz.copy())
    nearest = knn(xyz, 1)[:, 0]
    return float((xyz[nearest] - xyz).norm(dim=1).median())
