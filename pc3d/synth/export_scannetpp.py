"""A synthetic room as a ScanNet++ scene: aligned mesh, segments, and objects that may share vertices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.data.lists import DATASETS, read_table
from pc3d.data.scannetpp import IGNORED, MEMBERS, SPLITS
from pc3d.errors import DataError, explain
from pc3d.io.ply import write_ply
from pc3d.structures import PointCloud
from pc3d.synth.export_scannet import annotated_groups, bare_mesh, segment_ids
from pc3d.synth.raw import add_to_list, appearing_folder, surface_kinds, write_json, write_lines

#: Label in the annotation of our class -> what ``map_benchmark.csv`` makes of it: "" itself, None no class.
LABELS = {"sofa": ("couch", "sofa"), "counter": ("kitchen counter", ""), "desk": ("writing desk", "table"),
          "shower curtain": ("shower curtain", "curtain"), "bathtub": ("bathtub", "None"),
          "otherfurniture": ("furniture", "None"), "object": ("REMOVE", "None")}
ON_TOP = "box"                                      # is said to lie on every table and desk
SUPPORTS = ("table", "writing desk")


def scene_name(seed: int, split: str) -> str:
    """Ten hexadecimal digits, as ScanNet++ names scenes; the first is the split's."""
    return f"{tuple(SPLITS).index(split) + 10:x}{seed:09x}"


def scene_folder(root: Path, seed: int, split: str) -> Path:
    """Where a scene lies."""
    return root / "data" / scene_name(seed, split)


def export_scannetpp(cloud: PointCloud, folder: Path, *, annotated: bool = True) -> None:
    """Write a mesh with labels (of the 18 classes), instances and superpoints as the scene that ``folder`` is named after.

    One segment of every table and desk belongs to a box as well, so that its vertices have two labels, and every
    fourth vertex of the first object's first segment is ignored by evaluation. Raises DataError.
    """
    if cloud.faces is None or cloud.superpoints is None:
        raise DataError(explain("a ScanNet++ scene is a mesh with superpoints", got=repr(cloud)))
    kinds = surface_kinds(cloud)
    with appearing_folder(folder) as target:
        scans = target / "scans"
        scans.mkdir()
        write_ply(bare_mesh(cloud), scans / MEMBERS[0])
        if annotated:
            segments = segment_ids(cloud, kinds)
            write_json(scans / MEMBERS[1], {"sceneId": folder.name, "segIndices": segments.tolist()})
            groups = _groups(cloud, kinds, segments)
            write_json(scans / MEMBERS[2], {"sceneId": folder.name, "segGroups": groups})
            hidden = np.flatnonzero(np.isin(segments, [group["segments"][0] for group in groups[:1]]))[::4]
            write_lines(scans / IGNORED, map(str, hidden))


def _groups(cloud: PointCloud, kinds: NDArray[np.int64], segments: NDArray[np.int64]) -> list[dict[str, Any]]:
    groups = [{**group, "label": LABELS.get(group["label"], (group["label"],))[0]}
              for group in annotated_groups(cloud, kinds, segments)]
    boxes = [{"segments": group["segments"][:1], "label": ON_TOP} for group in groups if group["label"] in SUPPORTS]
    return [{**group, "id": place, "objectId": place + 1} for place, group in enumerate([*groups, *boxes])]


def finish_scannetpp(root: Path, split: str, names: list[str]) -> None:
    """Write what belongs to the set as a whole: class lists, label map and the list of the split."""
    metadata = root / "metadata" / "semantic_benchmark"
    metadata.mkdir(parents=True, exist_ok=True)
    (root / "splits").mkdir(exist_ok=True)
    table = read_table(DATASETS / "scannetpp" / "classes.tsv", ("label", "name"))
    write_lines(metadata / "top100.txt", [row["name"] for row in table])
    write_lines(metadata / "top100_instance.txt", [row["name"] for row in table if row["label"] != "-1"])
    mapped = dict(LABELS.values())
    rows = {**{row["name"]: "" for row in table}, **mapped}
    write_lines(metadata / "map_benchmark.csv", ["class,count,semantic_map_to,instance_map_to",
                                                 *(f"{name},1,{target},{target}" for name, target in rows.items())])
    add_to_list(root / "splits" / SPLITS[split], names)
