"""A segmented scan on disk: instances.ply to look at, instances.json to read, instances.npz to compute with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from pc3d.errors import DataError, FileError, explain
from pc3d.io.columns import COLOURS, cloud_from_columns, free_names
from pc3d.io.files import atomic_file, check_file, check_folder
from pc3d.io.instances import read_instances, write_instances
from pc3d.io.ply import read_ply, write_ply
from pc3d.structures import Instances, PointCloud
from pc3d.structures.palette import NEUTRAL, distinct_colors

#: The header of instances.ply says so, in order that its colours, labels and instances are never taken for the scan's own.
PAINTED = "painted by pc3d: red green blue label instance show a result, input_* is the scan's own"
#: Columns that the result overwrites -> where the scan's own values go.
_INPUT = {name: f"input_{name}" for name in (*COLOURS[0], "label", "instance")}
_OWN = re.compile(f"(input_)+({'|'.join(_INPUT)})")     # attributes that could be taken for them


def write_result(folder: str | Path, cloud: PointCloud, instances: Instances) -> None:
    """Write instances.ply, instances.json and instances.npz; row i of each belongs to point i of the scan.

    The PLY shows instances in palette colours (light grey: none) with columns ``instance`` and ``label``, -1 for none. The
    scan's columns are kept; its own colours, labels and instances move to ``input_red``, ..., ``input_instance``, and what
    has such a name already to ``input_input_red``, ....
    A comment in the header says so, and ``read`` undoes it. Columns that PLY cannot hold are left out with a warning.
    Raises DataError when instances and scan differ in length or evidence holds Python objects, FileError when the folder
    cannot be written.
    """
    folder = Path(folder)
    _check_same_points(cloud, instances, where=folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(explain("the folder cannot be made", where=folder, got=error.strerror)) from error
    write_instances(instances, folder / "instances.npz")
    write_ply(_painted(cloud, instances, folder), folder / "instances.ply")
    summary = {"file": cloud.metadata.get("file"), "num_points": len(cloud), "classes": list(instances.classes),
               "instances": instances.to_records(cloud.world_xyz)}
    with atomic_file(folder / "instances.json") as file:
        file.write((json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())


def read_result(folder: str | Path) -> tuple[PointCloud, Instances]:
    """Read what ``write_result`` wrote: the scan with its own colours and labels, and the instances found in it."""
    folder = check_folder(Path(folder))
    for name in ("instances.ply", "instances.npz"):
        check_file(folder / name)
    cloud = own_columns(read_ply(folder / "instances.ply"))
    instances = read_instances(folder / "instances.npz")
    _check_same_points(cloud, instances, where=folder)
    return cloud, instances


def _check_same_points(cloud: PointCloud, instances: Instances, *, where: object) -> None:
    ids = instances.point_to_superpoint
    count = instances.num_segments if ids is None else len(ids)
    if count != len(cloud):
        raise DataError(explain("instances and scan differ in length", where=where, got=f"instances over {count} points",
                                expected=f"{len(cloud)} points"))


def _painted(cloud: PointCloud, instances: Instances, where: object) -> PointCloud:
    owner, labels = instances.to_labels()
    saved: dict[str, Any] = {} if cloud.rgb is None else {_INPUT[c]: cloud.rgb[:, i] for i, c in enumerate(COLOURS[0])}
    for name, column in (("label", cloud.labels), ("instance", cloud.instances)):
        if column is not None:
            saved[_INPUT[name]] = column
    kept = {f"input_{name}" if _OWN.fullmatch(name) else name: values for name, values in cloud.attributes.items()}
    notes = cloud.metadata.get("ply", {})
    marked = {**notes, "comments": [*notes.get("comments", []), PAINTED]}
    colors = np.concatenate([distinct_colors(len(instances)), np.array([NEUTRAL], dtype=np.uint8)])
    return cloud.replace(rgb=colors[owner], labels=labels, instances=owner, metadata={**cloud.metadata, "ply": marked},
                         attributes=free_names(kept, where) | saved)


def own_columns(cloud: PointCloud) -> PointCloud:
    """Return a scan that ``write_result`` painted with its own colours, labels and instances again; others as they are."""
    notes = cloud.metadata.get("ply", {})
    if PAINTED not in notes.get("comments", ()):
        return cloud
    attributes = dict(cloud.attributes)
    own = {name: attributes.pop(saved) for name, saved in _INPUT.items() if saved in attributes}
    attributes = {name.removeprefix("input_") if _OWN.fullmatch(name) else name: values for name, values in attributes.items()}
    axes = dict(zip("xyz", cloud.xyz.T))
    restored = cloud_from_columns(axes | own, source=cloud.metadata.get("file"), origin=cloud.origin)
    unmarked = {**notes, "comments": [comment for comment in notes["comments"] if comment != PAINTED]}
    return cloud.replace(rgb=restored.rgb, labels=restored.labels, instances=restored.instances,
                         attributes=attributes | restored.attributes, metadata={**cloud.metadata, "ply": unmarked})
