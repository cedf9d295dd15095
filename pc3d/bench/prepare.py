"""``pc3d bench prepare``: one scene of ScanNetV2 from its raw files to a training scene, on one core.

The peer is the usual Python of published preparation scripts, written out here: plyfile's rows through a list comprehension,
dictionaries of lists for segments, a loop over faces for normals, and torch.save. Its superpoints come from our op, since
the usual scripts call a compiled program for them too.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.bench.compare import Row, compare
from pc3d.bench.scene import make_scene
from pc3d.data.preparation import prepare_scene
from pc3d.data.prepared import read_scene
from pc3d.data.recipes import MODES, Choices, open_recipe
from pc3d.data.scannetv2 import NYU40_IDS, read_label_map
from pc3d.errors import DataError, explain
from pc3d.structures import PointCloud
from pc3d.superpoints import compute_superpoints, segment_mesh
from pc3d.synth.export_scannet import export_scannet, finish_scannet

VERTICES = 150_000
SCENE = "scene0000_00"
PEER_ROUNDS = 2  # it takes seconds

Arrays = tuple[NDArray[Any], ...]


def run(rounds: int) -> Iterator[Row]:
    """Read, annotate, normals, superpoints, write: our way beside the usual one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for mode in MODES:
                yield _compare(Path(folder), mode, min(rounds, PEER_ROUNDS))
    finally:
        torch.set_num_threads(threads)


def _compare(folder: Path, mode: str, rounds: int) -> Row:
    raw = folder / mode
    scene = _labelled_scene()
    export_scannet(scene, raw / "scans" / SCENE)
    finish_scannet(raw, "train", [SCENE])
    recipe = open_recipe("scannetv2", raw, Choices(superpoints=mode))
    source = recipe.sources()[0]

    attempts = count()

    def own() -> Path:
        made = folder / f"made{mode}{next(attempts)}"
        result = prepare_scene(recipe, made, source)
        if result.fault:
            raise DataError(result.fault)
        return made / source.key

    def peer() -> Arrays:
        return usual_way(raw / "scans" / SCENE, read_label_map(raw, "nyu40id"), folder / "peer.pth", exact=mode == "exact")

    return compare(f"prepare a scene of {len(scene):,} vertices, {mode} superpoints", own, peer, rounds,
                   peer_name="plyfile, Python loops, torch.save", same=_same,
                   note="hashes of what is read and written are in our time")


def _labelled_scene() -> PointCloud:
    """The first VERTICES vertices of scene S; its boxes have classes, walls and floor none."""
    scene = make_scene()[:VERTICES]
    assert scene.instances is not None
    labels = np.where(scene.instances >= 2, scene.instances % len(NYU40_IDS), -1)
    return compute_superpoints(scene.replace(labels=labels, instances=scene.instances - 2)).replace(
        instances=np.where(labels >= 0, scene.instances - 2, -1))


def usual_way(folder: Path, label_map: dict[str, int], path: Path, *, exact: bool) -> Arrays:
    """What preparation scripts of this field do: coordinates, colours, labels, instances, superpoints, normals."""
    from plyfile import PlyData

    mesh = PlyData.read(str(folder / f"{SCENE}_vh_clean_2.ply"))
    points = np.array([list(row) for row in mesh.elements[0]])
    coords, colors = points[:, :3] - points[:, :3].mean(0), points[:, 3:6] / 127.5 - 1
    faces = np.vstack([row[0] for row in mesh.elements[1]])
    labels_file = PlyData.read(str(folder / f"{SCENE}_vh_clean_2.labels.ply"))
    remapper = np.full(150, -100)
    for label, nyu in enumerate(NYU40_IDS.values()):
        remapper[nyu] = label
    labels = remapper[np.array(labels_file.elements[0]["label"])]
    instances = _usual_instances(folder, label_map, len(coords))
    normals = _usual_normals(points[:, :3], faces)
    superpoints = np.unique(segment_mesh(points[:, :3].astype(np.float32), faces, exact=exact), return_inverse=True)[1]
    arrays = (coords, colors, labels, instances, superpoints, normals)
    torch.save(arrays, path)
    return arrays


def _usual_instances(folder: Path, label_map: dict[str, int], num_points: int) -> NDArray[np.int64]:
    segments = json.loads((folder / f"{SCENE}_vh_clean_2.0.010000.segs.json").read_text())["segIndices"]
    points_of_segment: dict[int, list[int]] = {}
    for point, segment in enumerate(segments):
        points_of_segment.setdefault(segment, []).append(point)
    instances, number = np.full(num_points, -100), 0
    for group in json.loads((folder / f"{SCENE}.aggregation.json").read_text())["segGroups"]:
        if label_map[group["label"]] in (1, 2):  # wall and floor
            continue
        rows: list[int] = []
        for segment in group["segments"]:
            rows += points_of_segment[segment]
        instances[rows] = number
        number += 1
    return instances


def _usual_normals(xyz: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    corners = xyz[faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(xyz)
    for face, area in zip(faces, areas):
        normals[face] += area
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-8)


def _same(folder: Path, peer: Arrays) -> None:
    own = read_scene(folder)
    coords, colors, labels, instances, superpoints, normals = peer
    assert own.rgb is not None
    assert own.normals is not None
    assert own.labels is not None
    assert own.instances is not None
    assert own.superpoints is not None
    differences = {
        "points": np.ptp(own.xyz - coords, axis=0).max() < 1e-5,  # but for the mean, which theirs takes in float32
        "colours": np.array_equal(own.rgb, np.rint((colors + 1) * 127.5)),
        "labels": np.array_equal(own.labels, np.maximum(labels, -1)),
        "instances": np.array_equal(own.instances, np.where(labels >= 0, np.maximum(instances, -1), -1)),
        "superpoints": np.array_equal(own.superpoints, superpoints),
        "normals": np.abs(own.normals - normals).max() < 0.01,  # ours are kept in a byte
    }
    unlike = [name for name, equal in differences.items() if not equal]
    if unlike:
        raise DataError(explain("the two sides prepared different scenes", got=", ".join(unlike)))
