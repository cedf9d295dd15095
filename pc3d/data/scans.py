"""A dataset of labelled scans: ``<root>/classes.json`` and ``<root>/<split>/``, prepared scenes and ``*.ply`` files alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc3d.data.pointcept import is_pointcept, read_pointcept
from pc3d.data.preparation import MANIFEST, read_manifest
from pc3d.data.prepared import is_prepared, read_scene
from pc3d.errors import DataError, FileError, FormatError, explain
from pc3d.io import read
from pc3d.io.files import read_json
from pc3d.structures import PointCloud
from pc3d.superpoints import complete


class ScanDataset:
    """Scans of one split in file-name order, each with labels, instances, normals and superpoints.

    A scan is a ``*.ply`` file, a folder written by ``pc3d prepare``, or one that Pointcept prepared. ``split`` may name
    several, joined by commas (``Area_1,Area_2``). Labels index ``classes``; -1 is "no class" (walls, floor, unknown).
    Superpoints of the scan are used as they are, else computed when it is read. ``labelled`` false: scans without truth too.
    """

    def __init__(self, root: str | Path, split: str, *, labelled: bool = True) -> None:
        self.root, self.split, self.labelled = Path(root), split, labelled
        self.classes = read_classes(self.root)
        self.paths = [path for name in split.split(",") for path in _scan_paths(self.root / name.strip())]
        self._tell_missing()

    def __len__(self) -> int:
        return len(self.paths)

    def scene(self, index: int) -> str:
        """Name of a scan: that of its folder, or of its file without ``.ply``."""
        path = self.paths[index]
        return path.name if path.is_dir() else path.stem

    def _tell_missing(self) -> None:
        """Warn of scenes that were prepared but are not here: the data set was copied in part."""
        if not (self.root / MANIFEST).exists():
            return
        there = {path.relative_to(self.root).as_posix() for path in self.paths}
        splits = {path.parent.name for path in self.paths}
        missing = sorted(key for key in read_manifest(self.root)["scenes"] if key.split("/")[0] in splits and key not in there)
        if missing:
            warnings.warn(explain(f"{len(missing)} scenes that the manifest lists are not here", where=self.root,
                                  got=f"no {missing[0]}", do="Copy them, or prepare the data set again."), stacklevel=3)

    def __getitem__(self, index: int) -> PointCloud:
        path = self.paths[index]
        cloud = read_scan(path, self.classes)
        if not self.labelled and (cloud.labels is None or cloud.instances is None):
            return complete(cloud.replace(labels=None, instances=None))
        if cloud.labels is None or cloud.instances is None:
            raise FormatError(explain("a training scan needs vertex columns 'label' and 'instance'", where=path,
                                      got=repr(cloud)))
        if cloud.labels.max(initial=-1) >= len(self.classes):
            row = int(cloud.labels.argmax())
            raise DataError(explain("a label has no class name", where=f"{path}:row {row}", got=int(cloud.labels[row]),
                                    expected=f"labels below {len(self.classes)} ({self.root / 'classes.json'})"))
        return complete(cloud)


def read_scan(path: Path, classes: Sequence[str] | None = None) -> PointCloud:
    """Read a scan file, or the folder of a prepared scene; ``classes`` say which labels of one by Pointcept are meant."""
    if not path.is_dir():
        return read(path)
    return read_scene(path) if is_prepared(path) else read_pointcept(path, classes)


def counted_points(cloud: PointCloud) -> NDArray[np.bool_]:
    """Which points (N,) evaluation counts: all but those that a benchmark leaves out of truth and predictions alike."""
    ignored = cloud.attributes.get("ignored")
    return np.ones(len(cloud), dtype=bool) if ignored is None else ~ignored


def _scan_paths(folder: Path) -> list[Path]:
    visible = [path for path in folder.glob("*") if not path.name.startswith(".")]
    paths = sorted(path for path in visible if path.suffix.lower() == ".ply" or is_prepared(path) or is_pointcept(path))
    if not paths:
        splits = sorted(path.name for path in folder.parent.glob("[!.]*") if path.is_dir())
        got = f"no such folder beside {', '.join(splits[:10])}" if splits and not folder.exists() else None
        raise FileError(explain("no scans found", where=folder, got=got,
                                expected="prepared scenes, or *.ply files with label and instance columns",
                                do="Make some with: pc3d prepare, or pc3d synth <root> --rooms 20"))
    return paths


def read_classes(root: Path) -> tuple[str, ...]:
    """Read the class names of a dataset folder. Raises FileError, or FormatError for what is no list of different names."""
    path = root / "classes.json"
    if not path.exists():
        raise FileError(explain("cannot read the class list", where=path, got="no such file",
                                expected="a json list of class names, beside the folders of the splits"))
    names = read_json(path)
    named = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    if not named or len(set(names)) < len(names):
        raise FormatError(explain("the class list must be a json list of different names", where=path, got=str(names)[:200]))
    return tuple(names)
