"""A tiny world: two boxes on a floor, and a network small enough to train in a test."""

import json
from pathlib import Path

import numpy as np
import pytest

from pc3d.config import ExperimentConfig, build
from pc3d.io import write
from pc3d.structures import PointCloud
from pc3d.superpoints import compute_superpoints

CLASSES = ("box", "ball")


def make_scan(seed: int) -> PointCloud:
    """A 2 m floor with a red box on one side and a blue ball on the other, about 2,500 points."""
    rng = np.random.default_rng(seed)
    floor = np.column_stack([rng.random((900, 2)) * 2, np.zeros(900)])
    face = rng.integers(0, 5, 800)
    box = rng.random((800, 3))
    along_x, along_y = face < 2, (face == 2) | (face == 3)
    box[along_x, 0], box[along_y, 1], box[face == 4, 2] = face[along_x], face[along_y] - 2, 1
    box = box * 0.5 + [0.2, rng.uniform(0.2, 1.2), 0.02]
    ball = rng.standard_normal((800, 3))
    ball = ball / np.linalg.norm(ball, axis=1, keepdims=True) * 0.3 + [1.6, rng.uniform(0.4, 1.6), 0.35]
    rows = [len(floor), len(box), len(ball)]
    labels = np.repeat([-1, 0, 1], rows)
    return PointCloud(xyz=np.concatenate([floor, box, ball]), labels=labels, instances=labels,
                      rgb=np.repeat([[120, 120, 120], [200, 30, 30], [30, 30, 200]], rows, axis=0))


def write_dataset(root: Path) -> Path:
    """Write a folder dataset of four training and two validation scans."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.json").write_text(json.dumps(CLASSES))
    for split, seeds in (("train", range(4)), ("val", range(10, 12))):
        (root / split).mkdir()
        for seed in seeds:
            write(compute_superpoints(make_scan(seed)), root / split / f"scan{seed:02d}.ply")
    return root


def make_config(root: Path, run: Path) -> ExperimentConfig:
    """A network of a few thousand weights, trained for two epochs."""
    return build(ExperimentConfig, {
        "model": {"classes": CLASSES, "backbone": {"channels": [8, 16], "block_reps": 1, "voxel_size": 0.1},
                  "decoder": {"num_layers": 2, "num_queries": 8, "d_model": 32, "num_heads": 2, "d_ffn": 32},
                  "inference": {"min_points": 10}},
        "data": {"root": str(root)},
        "augment": {"elastic": [], "jitter": 0.0},
        "train": {"output": str(run), "epochs": 2, "batch_size": 2, "lr": 2e-3, "eval_every": 2, "device": "cpu"},
    }, where="test")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture
def config(dataset, tmp_path):
    return make_config(dataset, tmp_path / "run")
