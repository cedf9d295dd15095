"""A data set of scanned rooms on disk: ``<root>/classes.json`` and ``<root>/<split>/<scene>.ply``."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from pc3d.errors import ConfigError, explain
from pc3d.structures import PointCloud
from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.rooms import make_room
from pc3d.synth.scanner import ScannerConfig, scan_room

SPLITS = ("train", "val", "test")

#: Kinds of rooms by seed, in turn, so that a small data set shows every class.
KINDS = ("living", "bedroom", "kitchen", "bathroom", "office", "living", "bathroom", "bedroom", "kitchen", "meeting")


def make_scene(seed: int, *, split: str = "train", config: ScannerConfig | None = None) -> PointCloud:
    """Make, scan and partition the room of one seed: mesh with labels, instances and superpoints.

    Rooms of ``val`` and ``test`` also draw from furniture that ``train`` never shows (``furniture.VALIDATION_MAKERS``).
    """
    from pc3d.superpoints import compute_superpoints

    rng = np.random.default_rng([seed, SPLITS.index(split)])
    room = make_room(rng, kind=KINDS[seed % len(KINDS)], validation=split != "train")
    return compute_superpoints(scan_room(room, rng, config))


def write_dataset(
    folder: str | Path,
    rooms: int,
    seed: int = 0,
    *,
    split: str = "train",
    workers: int = 1,
    config: ScannerConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write rooms ``seed`` ... ``seed + rooms - 1`` as binary mesh ply and return their paths.

    A room depends on its seed and split alone, whatever ``workers`` is. Rooms already there are kept, so a stopped run
    goes on where it was. ``progress(done, rooms)`` is called after each. Raises ConfigError for an unknown split.
    """
    if split not in SPLITS or rooms < 1:
        raise ConfigError(
            explain(
                "cannot write this data set",
                got=f"split={split!r}, rooms={rooms}",
                expected=f"a split of {', '.join(SPLITS)} and rooms >= 1",
            )
        )
    target = Path(folder) / split
    target.mkdir(parents=True, exist_ok=True)
    (Path(folder) / "classes.json").write_text(json.dumps(SCANNET_CLASSES, indent=1) + "\n")
    write_one = partial(_write_scene, target, split=split, config=config)
    seeds = range(seed, seed + rooms)
    paths = []
    if workers <= 1:
        for path in map(write_one, seeds):
            paths.append(path)
            if progress:
                progress(len(paths), rooms)
        return paths
    # spawn: a fork would inherit locked thread pools of torch and Open3D
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for path in pool.imap(write_one, seeds):
            paths.append(path)
            if progress:
                progress(len(paths), rooms)
    return paths


def _write_scene(target: Path, seed: int, *, split: str, config: ScannerConfig | None) -> Path:
    from pc3d import io

    path = target / f"room{seed:06d}.ply"
    if not path.exists():
        io.write(make_scene(seed, split=split, config=config), path)
    return path
