"""A synthetic room as others have prepared ScanNetV2: Pointcept's folder of arrays, or the tuple of the PointGroup family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.data.nostuff import SUFFIX
from pc3d.errors import DataError, explain
from pc3d.io.files import atomic_file
from pc3d.structures import PointCloud
from pc3d.synth.raw import FLOOR, WALL, appearing_folder, surface_kinds


def labels_of_20(cloud: PointCloud, none: int) -> NDArray[np.int64]:
    """Label of every point (N,) among ScanNet's 20 classes: wall, floor, then our 18; ``none`` for anything else."""
    kinds = surface_kinds(cloud)
    assert cloud.labels is not None
    return np.select([cloud.labels >= 0, kinds == WALL, kinds == FLOOR], [cloud.labels + 2, 0, 1], none)


def export_pointcept(cloud: PointCloud, folder: Path, *, annotated: bool = True) -> None:
    """Write a cloud with labels, instances and normals as a scene of Pointcept's ScanNet. Raises DataError."""
    columns: dict[str, Any] = {"coord": cloud.xyz, "color": _colors(cloud), "normal": cloud.normals}
    if annotated:
        columns |= {"segment20": labels_of_20(cloud, -1).astype(np.int16), "instance": _instances(cloud, -1).astype(np.int32)}
    with appearing_folder(folder) as target:
        for name, values in columns.items():
            np.save(target / f"{name}.npy", values)


def export_nostuff(cloud: PointCloud, path: Path, *, annotated: bool = True) -> None:
    """Write a cloud with labels, instances, normals and superpoints as ``<scene>_inst_nostuff.pth`` and what Relation3D
    keeps beside it, ``_superpoints.pth`` and ``_normals.pth``. Raises DataError."""
    if cloud.superpoints is None:
        raise DataError(explain("this family keeps superpoints", got=repr(cloud)))
    truth = [labels_of_20(cloud, -100), _instances(cloud, -100)] if annotated else []
    scene = path.name.removesuffix(SUFFIX)
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, content in ((f"{scene}_superpoints.pth", cloud.superpoints), (f"{scene}_normals.pth", cloud.normals),
                          (path.name, (cloud.xyz - cloud.xyz.mean(axis=0), _colors(cloud) / np.float32(127.5) - 1, *truth))):
        with atomic_file(path.with_name(name)) as file:
            torch.save(content, file)


def _colors(cloud: PointCloud) -> NDArray[np.uint8]:
    return np.full((len(cloud), 3), 128, np.uint8) if cloud.rgb is None else cloud.rgb


def _instances(cloud: PointCloud, none: int) -> NDArray[np.int64]:
    assert cloud.instances is not None
    assert cloud.labels is not None
    return np.where((cloud.instances >= 0) & (cloud.labels >= 0), cloud.instances, none)
