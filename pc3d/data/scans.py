"""A dataset of labelled scans: ``<root>/classes.json`` and ``<root>/<split>/*.ply``."""

from __future__ import annotations

import json
from pathlib import Path

from pc3d.errors import DataError, FileError, FormatError, explain
from pc3d.io import read
from pc3d.structures import PointCloud
from pc3d.superpoints import compute_superpoints


class ScanDataset:
    """Scans of one split in file-name order, each with labels, instances, normals and superpoints.

    Labels index ``classes``; -1 is "no class" (walls, floor, unknown). Superpoints in the file are used as they are,
    else computed when the scan is read.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        self.root, self.split = Path(root), split
        self.classes = read_classes(self.root)
        self.paths = sorted((self.root / split).glob("*.ply"))
        if not self.paths:
            raise FileError(explain("no scans found", where=self.root / split,
                                    expected="*.ply files with label and instance columns",
                                    do="Make some with: pc3d synth <root> --rooms 20"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> PointCloud:
        path = self.paths[index]
        cloud = read(path)
        if cloud.labels is None or cloud.instances is None:
            raise FormatError(explain("a training scan needs vertex columns 'label' and 'instance'", where=path,
                                      got=repr(cloud)))
        if cloud.labels.max(initial=-1) >= len(self.classes):
            row = int(cloud.labels.argmax())
            raise DataError(explain("a label has no class name", where=f"{path}:row {row}", got=int(cloud.labels[row]),
                                    expected=f"labels below {len(self.classes)} ({self.root / 'classes.json'})"))
        return cloud if cloud.superpoints is not None and cloud.normals is not None else compute_superpoints(cloud)


def read_classes(root: Path) -> tuple[str, ...]:
    """Read the class names of a dataset folder."""
    path = root / "classes.json"
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(explain("cannot read the class list", where=path, got=error.strerror,
                                expected="a json list of class names")) from error
    except ValueError as error:
        raise FormatError(explain("the class list is not valid json", where=path, got=str(error))) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError(explain("the class list must be a json list of names", where=path, got=type(names).__name__))
    return tuple(names)
