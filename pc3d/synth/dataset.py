"""A data set of scanned rooms on disk: as plain scans (``<root>/<split>/<scene>.ply``) or in a real data set's raw layout."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pc3d.data.nostuff import SUFFIX
from pc3d.errors import ConfigError, explain
from pc3d.structures import PointCloud
from pc3d.synth import export_scannetpp as scannetpp
from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.export_folder import export_folder
from pc3d.synth.export_prepared import export_nostuff, export_pointcept
from pc3d.synth.export_s3dis import export_s3dis, room_folder
from pc3d.synth.export_scannet import export_scannet, finish_scannet, scene_folder, scene_name
from pc3d.synth.furniture import Stock
from pc3d.synth.models import ModelLibrary, attribution
from pc3d.synth.rooms import make_room
from pc3d.synth.scanner import ScannerConfig, View, scan_room, scan_views

SPLITS = ("train", "val", "test")

#: Kinds of rooms by seed, in turn, so that a small data set shows every class.
KINDS = ("living", "bedroom", "kitchen", "bathroom", "office", "suite", "living", "corridor", "bathroom", "meeting",
         "living", "bedroom", "kitchen", "bathroom", "office", "suite", "bedroom", "living", "kitchen", "bathroom")


class Layout(NamedTuple):
    """How a data set lies on disk."""

    place: Callable[[Path, int, str], Path]             # (root, seed, split) -> what appears when the scene is done
    write: Callable[[PointCloud, list[View], Path, str], None]  # (cloud, its views, place, split)
    finish: Callable[[Path, str, list[Path]], None]     # (root, split, places): what belongs to the set as a whole
    views: bool = False                                 # whether there are any to write


def make_scene(
    seed: int, *, split: str = "train", config: ScannerConfig | None = None, models: ModelLibrary | None = None
) -> PointCloud:
    """Make, scan and partition the room of one seed: mesh with labels, instances and superpoints.

    Rooms of ``val`` and ``test`` also draw from furniture that ``train`` never shows (``furniture.VALIDATION_MAKERS``). With
    ``models`` about half of the furniture are real models, and the rooms are others than without.
    """
    from pc3d.superpoints import compute_superpoints

    rng = np.random.default_rng([seed, SPLITS.index(split)])
    room = make_room(rng, kind=KINDS[seed % len(KINDS)], stock=Stock(split != "train", models))
    return compute_superpoints(scan_room(room, rng, config))


def make_views(
    seed: int, *, split: str = "train", config: ScannerConfig | None = None, models: ModelLibrary | None = None
) -> tuple[PointCloud, list[View]]:
    """The same scene with the frames it was scanned from, and the truth of their pixels."""
    from pc3d.superpoints import compute_superpoints

    rng = np.random.default_rng([seed, SPLITS.index(split)])
    room = make_room(rng, kind=KINDS[seed % len(KINDS)], stock=Stock(split != "train", models))
    mesh, views = scan_views(room, rng, config)
    return compute_superpoints(mesh), views


def write_dataset(
    folder: str | Path,
    rooms: int,
    seed: int = 0,
    *,
    split: str = "train",
    workers: int = 1,
    config: ScannerConfig | None = None,
    layout: str = "scans",
    models: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write rooms ``seed`` ... ``seed + rooms - 1`` and return their paths: mesh files, or folders of raw files.

    ``layout`` is ``scans`` (binary mesh ply with all columns), ``scannet``, ``scannetpp`` or ``s3dis`` (the raw layouts of
    ScanNetV2 and ScanNet200, ScanNet++ and S3DIS, for ``pc3d prepare``), ``pointcept`` or ``inst_nostuff`` (as others prepare
    ScanNetV2).

    ``models`` is a folder of furniture catalogues (``synth.models``) to draw from besides; who made them is then written to
    ``<folder>/ATTRIBUTION.txt``.

    A room depends on its seed, split and models alone, whatever ``workers`` is. Rooms already there are kept, so a stopped run
    goes on where it was. ``progress(done, rooms)`` is called after each. Raises ConfigError for an unknown split or layout.
    """
    if split not in SPLITS or rooms < 1 or layout not in LAYOUTS:
        raise ConfigError(
            explain(
                "cannot write this data set",
                got=f"split={split!r}, rooms={rooms}, layout={layout!r}",
                expected=f"a split of {', '.join(SPLITS)}, rooms >= 1 and a layout of {', '.join(LAYOUTS)}",
            )
        )
    root = Path(folder)
    LAYOUTS[layout].place(root, seed, split).parent.mkdir(parents=True, exist_ok=True)
    if models:
        (root / "ATTRIBUTION.txt").write_text(attribution(_library(models)), encoding="utf-8")
    write_one = partial(_write_scene, root, split=split, config=config, layout=layout, models=models)
    paths = _write_scenes(write_one, range(seed, seed + rooms), workers, progress)
    LAYOUTS[layout].finish(root, split, paths)
    return paths


def _write_scenes(
    write_one: Callable[[int], Path], seeds: range, workers: int, progress: Callable[[int, int], None] | None
) -> list[Path]:
    paths: list[Path] = []
    if workers <= 1:
        for path in map(write_one, seeds):
            paths.append(path)
            if progress:
                progress(len(paths), len(seeds))
        return paths
    # spawn: a fork would inherit locked thread pools of torch and Open3D
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for path in pool.imap(write_one, seeds):
            paths.append(path)
            if progress:
                progress(len(paths), len(seeds))
    return paths


def _write_scene(
    root: Path, seed: int, *, split: str, config: ScannerConfig | None, layout: str, models: Path | None
) -> Path:
    place = LAYOUTS[layout].place(root, seed, split)
    if not place.exists():
        library, views = _library(models) if models else None, list[View]()
        if LAYOUTS[layout].views:
            cloud, views = make_views(seed, split=split, config=config, models=library)
        else:
            cloud = make_scene(seed, split=split, config=config, models=library)
        LAYOUTS[layout].write(cloud, views, place, split)
    return place


@cache
def _library(folder: Path) -> ModelLibrary:
    """One library a process, so that each model is read once."""
    return ModelLibrary(folder)


def _write_ply(cloud: PointCloud, views: list[View], path: Path, split: str) -> None:
    from pc3d import io

    io.write(cloud, path)


def _write_classes(root: Path, split: str, paths: list[Path]) -> None:
    (root / "classes.json").write_text(json.dumps(SCANNET_CLASSES, indent=1) + "\n")


def _write_scannet(cloud: PointCloud, views: list[View], place: Path, split: str) -> None:
    export_scannet(cloud, place, annotated=split != "test", views=views)


_SCANNET = Layout(scene_folder, _write_scannet,
                  lambda root, split, places: finish_scannet(root, split, [place.name for place in places]))

LAYOUTS = {
    "scans": Layout(lambda root, seed, split: root / split / f"room{seed:06d}.ply", _write_ply, _write_classes),
    "scannet": _SCANNET,
    "scannet-frames": _SCANNET._replace(views=True),
    "frames": Layout(
        lambda root, seed, split: root / split / f"room{seed:06d}",
        lambda cloud, views, place, split: export_folder(cloud, views, place),
        lambda root, split, places: None,
        views=True,
    ),
    "scannetpp": Layout(
        scannetpp.scene_folder,
        lambda cloud, views, place, split: scannetpp.export_scannetpp(cloud, place, annotated=split != "test"),
        lambda root, split, places: scannetpp.finish_scannetpp(root, split, [place.name for place in places]),
    ),
    "s3dis": Layout(
        lambda root, seed, split: room_folder(root, seed, split, KINDS[seed % len(KINDS)]),
        lambda cloud, views, place, split: export_s3dis(cloud, place),
        lambda root, split, places: None,
    ),
    "pointcept": Layout(
        lambda root, seed, split: root / split / scene_name(seed, split),
        lambda cloud, views, place, split: export_pointcept(cloud, place, annotated=split != "test"),
        _write_classes,
    ),
    "inst_nostuff": Layout(
        lambda root, seed, split: root / split / f"{scene_name(seed, split)}{SUFFIX}",
        lambda cloud, views, place, split: export_nostuff(cloud, place, annotated=split != "test"),
        lambda root, split, places: None,
    ),
}
