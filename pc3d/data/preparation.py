"""From a raw data set to prepared scenes: in parallel, resumable, and honest about every scene that fails."""

from __future__ import annotations

import glob
import hashlib
import json
import multiprocessing
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from pc3d import __version__
from pc3d.data.prepared import FORMAT_VERSION, check_scene, is_current, is_prepared, read_record, write_scene
from pc3d.errors import ConfigError, FileError, FormatError, Pc3dError, explain
from pc3d.io.files import atomic_file, check_file, read_json
from pc3d.structures import PointCloud
from pc3d.superpoints import SuperpointSettings, complete

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Source:
    """The raw files of one scene."""

    split: str
    name: str
    files: tuple[Path, ...]
    tables: tuple[Path, ...] = ()   # files of the whole set that its result depends on

    @property
    def key(self) -> str:
        """``split/name``, where the prepared scene lies under the root."""
        return f"{self.split}/{self.name}"


class Recipe(Protocol):
    """How one raw data set is read; picklable, since workers get a copy."""

    @property
    def dataset(self) -> str:
        """Name of the data set."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; labels index them."""

    @property
    def superpoints(self) -> SuperpointSettings:
        """How scenes that bring no superpoints are partitioned."""

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything besides files and superpoints that decides the result; json."""

    @property
    def remarks(self) -> list[str]:
        """What is odd about the raw folder as a whole."""

    def sources(self) -> list[Source]:
        """The scenes to prepare. Raises FileError when the raw folder is not what it should be."""

    def read(self, source: Source) -> tuple[PointCloud, list[str]]:
        """The scene with labels and instances (None without annotation), and notes on what was odd about it."""

    def parts(self, source: Source, cloud: PointCloud) -> list[tuple[str, PointCloud]]:
        """Names and clouds of the prepared scenes that a whole one becomes; it is complete by then."""


class WholeScenes:
    """A recipe that cuts nothing and finds nothing odd."""

    remarks: ClassVar[list[str]] = []

    def parts(self, source: Source, cloud: PointCloud) -> list[tuple[str, PointCloud]]:
        """The scene as it is."""
        return [(source.name, cloud)]


@dataclass(frozen=True)
class SceneResult:
    """What became of one scene: ``made``, ``kept`` (already there) or ``failed``."""

    key: str
    status: str
    fault: str | None = None


@dataclass(frozen=True)
class Report:
    """What a preparation did."""

    root: Path
    made: int
    kept: int
    faults: dict[str, str] = field(default_factory=dict)            # scene -> what is wrong with it
    notes: dict[str, list[str]] = field(default_factory=dict)       # prepared scene -> what was odd about it
    remarks: list[str] = field(default_factory=list)                # what is odd about the raw folder
    gone: list[str] = field(default_factory=list)                   # prepared scenes that the raw folder holds no more


def prepare(recipe: Recipe, root: str | Path, *, chosen: Sequence[str] | None = None, workers: int = 1,
            progress: Callable[[int, int, SceneResult], None] | None = None) -> Report:
    """Prepare every scene of a recipe under ``root/<split>/<scene>``, then check all that is there.

    Scenes whose raw files and parameters have not changed are kept. A scene that fails is reported and the rest goes on;
    ``progress(done, total, result)`` is called after each. Prepared scenes without raw files stay and are named in
    ``gone``: of the splits at hand, or where it is given of the ``chosen`` ones, all when there are none. Writes classes.json
    and manifest.json. Raises FileError when the root cannot be written, ConfigError when it holds another data set.
    """
    root = Path(root)
    _check_root(root, recipe)
    sources = recipe.sources()
    _write_json(root / "classes.json", list(recipe.classes))
    results = []
    for done, result in enumerate(_run(recipe, root, sources, workers), 1):
        results.append(result)
        if progress:
            progress(done, len(sources), result)
    faults = {result.key: result.fault for result in results if result.fault is not None}
    found, notes = write_manifest(root, recipe, faults)
    faults |= found
    gone = [key for key in _without_source(root, sources, chosen) if key not in faults]
    count = {status: sum(result.status == status for result in results) for status in ("made", "kept")}
    return Report(root, count["made"], count["kept"], faults, notes, recipe.remarks, gone)


def _check_root(root: Path, recipe: Recipe) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(explain("the output folder cannot be made", where=root, got=error.strerror)) from error
    if (root / MANIFEST).exists():
        manifest = read_json(root / MANIFEST)
        there = manifest.get("dataset") if isinstance(manifest, dict) else None
        if there != recipe.dataset:
            raise ConfigError(explain("the output folder holds another data set", where=root / MANIFEST, got=there,
                                      expected=recipe.dataset, do="Choose another output folder."))


def _run(recipe: Recipe, root: Path, sources: Sequence[Source], workers: int) -> Iterator[SceneResult]:
    job = partial(prepare_scene, recipe, root)
    if workers <= 1:
        yield from map(job, sources)
        return
    # spawn: a fork would inherit locked thread pools of torch
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(sources)), context, torch.set_num_threads, (1,)) as pool:
        futures = {pool.submit(job, source): source for source in sources}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield SceneResult(futures[future].key, "failed", explain(
                    "a worker process died", where=futures[future].key, do="Memory may be short: use fewer workers."))


def prepare_scene(recipe: Recipe, root: Path, source: Source) -> SceneResult:
    """Prepare one scene, or say what is wrong with it."""
    folder = root / source.split
    try:
        digest = source_hash(recipe, source)
        before = _parts_of(folder, source.name)
        whole = all(record.get("parts", 1) == len(before) for record in before.values())
        if before and whole and all(is_current(path, digest) for path in before):
            return SceneResult(source.key, "kept")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cloud, notes = recipe.read(source)
            cloud = complete(cloud, recipe.superpoints)
        notes = [*notes, *(str(warning.message) for warning in caught)]
        parts = recipe.parts(source, cloud)
        facts = {"source": digest, "recipe": fingerprint(recipe), "scene": source.name, "parts": len(parts), "notes": notes}
        for name, part in parts:
            write_scene(part, folder / name, facts)
        for path in before.keys() - {folder / name for name, _ in parts}:  # of a run that cut the scene otherwise
            shutil.rmtree(path)
    except Pc3dError as error:
        return SceneResult(source.key, "failed", str(error))
    except Exception as error:  # one scene must not stop the other thousand
        return SceneResult(source.key, "failed", explain(f"{type(error).__name__}: {error}", where=source.files[0]))
    return SceneResult(source.key, "made")


def _parts_of(folder: Path, scene: str) -> dict[Path, dict[str, Any]]:
    """Folder and record of everything that was made of a scene."""
    found = {}
    for path in folder.glob(f"{glob.escape(scene)}*"):
        try:
            record = read_record(path)
        except FileError:
            continue
        if record.get("scene", path.name) == scene:
            found[path] = record
    return found


def _without_source(root: Path, sources: Sequence[Source], chosen: Sequence[str] | None) -> list[str]:
    """Whole prepared scenes that none of the sources is of: of their splits, or of the chosen ones, all when there are none."""
    keys, splits = {source.key for source in sources}, {source.split for source in sources} if chosen is None else chosen
    found = []
    for folder in scene_folders(root):
        if not splits or folder.parent.name in splits:
            try:
                record = read_record(folder)
            except FileError:
                continue
            if f"{folder.parent.name}/{record.get('scene', folder.name)}" not in keys:
                found.append(folder.relative_to(root).as_posix())
    return found


def parameters_of(recipe: Recipe) -> dict[str, Any]:
    """Everything besides the files that decides the result."""
    return {"superpoints": asdict(recipe.superpoints), **recipe.parameters}


def fingerprint(recipe: Recipe) -> str:
    """Hash of everything but the files that decides what a prepared scene holds."""
    settings = [FORMAT_VERSION, recipe.dataset, recipe.classes, parameters_of(recipe)]
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def source_hash(recipe: Recipe, source: Source) -> str:
    """Hash of a scene's raw files and of the recipe. Raises FileError naming a file that is missing."""
    digest = hashlib.sha256(fingerprint(recipe).encode())
    for path in (*source.files, *source.tables):
        check_file(path, may_be_empty=True)  # where a file may not, its reader says so
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def write_manifest(root: Path, recipe: Recipe, faults: dict[str, str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Check every scene under the root, write manifest.json, and return the faults that were found and the notes, by scene."""
    scenes, found = {}, {}
    mark = fingerprint(recipe)
    for folder in scene_folders(root):
        key = folder.relative_to(root).as_posix()
        try:
            check_scene(folder, len(recipe.classes))
            scenes[key] = read_record(folder)
        except Pc3dError as error:
            found[key] = str(error)
            continue
        if scenes[key].get("recipe") != mark:
            found[key] = explain("this scene was prepared with other parameters", where=folder,
                                 do="Prepare its split again, or delete it.")
    totals: dict[str, dict[str, int]] = {}
    for key, record in scenes.items():
        split = totals.setdefault(key.split("/")[0], {"scenes": 0, "points": 0, "superpoints": 0, "instances": 0})
        split["scenes"] += 1
        for name in ("points", "superpoints", "instances"):
            split[name] += record[name]
    versions = {"pc3d": __version__, "numpy": np.__version__, "torch": str(torch.__version__), "format": FORMAT_VERSION}
    _write_json(root / MANIFEST, {"dataset": recipe.dataset, "versions": versions, "parameters": parameters_of(recipe),
                                  "remarks": recipe.remarks, "classes": list(recipe.classes), "splits": totals,
                                  "faults": {**faults, **found}, "scenes": scenes})
    return found, {key: record["notes"] for key, record in scenes.items() if record.get("notes")}


def read_manifest(root: Path) -> dict[str, Any]:
    """Read ``manifest.json``. Raises FileError, or FormatError when it is none."""
    manifest = read_json(root / MANIFEST)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("scenes"), dict):
        raise FormatError(explain("this is no manifest of prepared scenes", where=root / MANIFEST,
                                  do="Prepare the data set again."))
    return manifest


def scene_folders(root: Path) -> list[Path]:
    """Every prepared scene under a root, in order."""
    return sorted(folder for folder in root.glob("*/*") if not folder.name.startswith(".") and is_prepared(folder))


def _write_json(path: Path, value: Any) -> None:
    with atomic_file(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())
