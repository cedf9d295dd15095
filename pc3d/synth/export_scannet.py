"""A synthetic room as a ScanNetV2 scene: mesh, NYU40 labels, segments, and the groups of segments that make objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.data.scannetv2 import LABEL_MAP, NYU40_IDS
from pc3d.errors import DataError, explain
from pc3d.io.ply import write_ply
from pc3d.structures import PointCloud
from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.export_frames import export_frames
from pc3d.synth.raw import CEILING, FLOOR, WALL, add_to_list, appearing_folder, surface_kinds, write_json, write_lines
from pc3d.synth.scanner import View

#: Raw label id of each of our classes and of other things that are annotated, as in ScanNet's own table.
RAW_IDS = {"cabinet": 7, "bed": 11, "chair": 2, "sofa": 6, "table": 4, "door": 5, "window": 16, "bookshelf": 18, "picture": 15,
           "counter": 35, "desk": 9, "curtain": 21, "refrigerator": 27, "shower curtain": 55, "toilet": 17, "sink": 14,
           "bathtub": 42, "otherfurniture": 213, "wall": 1, "floor": 3, "ceiling": 41, "object": 1163}
#: Surfaces that ScanNet annotates like objects: kind -> (raw label, NYU40 id).
SURFACES = {WALL: ("wall", 1), FLOOR: ("floor", 2), CEILING: ("ceiling", 22)}


def scene_name(seed: int, split: str) -> str:
    """Name of the scene of a seed; the second number is the split's, so that splits never share a name."""
    return f"scene{seed:04d}_{('train', 'val', 'test').index(split):02d}"


def scene_folder(root: Path, seed: int, split: str) -> Path:
    """Where a scene lies: test scans beside the others, as in the download."""
    return root / ("scans_test" if split == "test" else "scans") / scene_name(seed, split)


def export_scannet(cloud: PointCloud, folder: Path, *, annotated: bool = True, views: Sequence[View] = ()) -> None:
    """Write a mesh with labels (of the 18 classes), instances and superpoints as the scene that ``folder`` is named after.

    Not ``annotated``, as test scenes are, only the mesh is written; ``views`` add the ``.sens`` file and, where annotated,
    the 2D instances and labels. Reading it back gives the same labels and instances
    when those are numbered from 0. Raises DataError or FileError.
    """
    if cloud.faces is None or cloud.superpoints is None:
        raise DataError(explain("a ScanNet scene is a mesh with superpoints", got=repr(cloud)))
    kinds = surface_kinds(cloud)
    name, bare = folder.name, bare_mesh(cloud)
    with appearing_folder(folder) as target:
        write_ply(bare, target / f"{name}_vh_clean_2.ply")
        if annotated:
            nyu = nyu_labels(cloud, kinds)
            write_ply(bare.replace(labels=nyu), target / f"{name}_vh_clean_2.labels.ply")
            segments = segment_ids(cloud, kinds)
            write_json(target / f"{name}_vh_clean_2.0.010000.segs.json", {
                "params": {"kThresh": "0.01", "segMinVerts": "20"}, "sceneId": name, "segIndices": segments.tolist()})
            write_json(target / f"{name}.aggregation.json", {
                "sceneId": f"scannet.{name}", "appId": "Aggregator.v2", "segGroups": annotated_groups(cloud, kinds, segments),
                "segmentsFile": f"scannet.{name}_vh_clean_2.0.010000.segs.json"})
        if views:
            raw_ids = np.array([*(RAW_IDS[label] for label in SCANNET_CLASSES), 0])
            export_frames(views, target, name, raw_ids if annotated else None)


def bare_mesh(cloud: PointCloud) -> PointCloud:
    """Coordinates, colours (with alpha, as in ScanNet) and faces."""
    rgb = np.full((len(cloud), 3), 128, np.uint8) if cloud.rgb is None else cloud.rgb
    return PointCloud(xyz=cloud.xyz, origin=cloud.origin, rgb=rgb, faces=cloud.faces,
                      attributes={"alpha": np.full(len(cloud), 255, np.uint8)})


def nyu_labels(cloud: PointCloud, kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """NYU40 id of every vertex (N,): of its class, its surface, or 0."""
    assert cloud.labels is not None
    nyu = np.array([*NYU40_IDS.values(), 0])[cloud.labels]
    for kind, (_, nyu_id) in SURFACES.items():
        nyu[kinds == kind] = nyu_id
    return nyu


def segment_ids(cloud: PointCloud, kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Segment of every vertex (N,): superpoints cut where the object changes, named by their first vertex as in ScanNet."""
    assert cloud.instances is not None
    assert cloud.labels is not None
    assert cloud.superpoints is not None
    rows = np.stack([cloud.superpoints, cloud.instances, cloud.labels, kinds], axis=1)
    _, first, segment = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first[segment.reshape(-1)]


def annotated_groups(cloud: PointCloud, kinds: NDArray[np.int64], segments: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Objects in the order of their ids, then the surfaces."""
    assert cloud.instances is not None
    assert cloud.labels is not None
    names, entries = list(NYU40_IDS), []
    for instance in np.unique(cloud.instances[cloud.instances >= 0]):
        rows = np.flatnonzero(cloud.instances == instance)
        label = names[cloud.labels[rows[0]]] if cloud.labels[rows[0]] >= 0 else "object"
        entries.append((label, np.unique(segments[rows])))
    entries += [(label, np.unique(segments[kinds == kind])) for kind, (label, _) in SURFACES.items() if (kinds == kind).any()]
    return [{"id": index, "objectId": index, "segments": ids.tolist(), "label": label}
            for index, (label, ids) in enumerate(entries)]


def finish_scannet(root: Path, split: str, names: list[str]) -> None:
    """Write what belongs to the set as a whole: the label map and the list of the split, earlier scenes kept in it."""
    rows = [*((name, nyu) for name, nyu in NYU40_IDS.items()), *SURFACES.values(), ("object", 40)]
    lines = ["id\traw_category\tcategory\tnyu40id\tnyu40class"]
    lines += [f"{RAW_IDS[name]}\t{name}\t{name}\t{nyu}\t{name}" for name, nyu in rows]
    write_lines(root / LABEL_MAP, lines)
    add_to_list(root / f"scannetv2_{split}.txt", names)
