"""``pc3d bench loader``: training samples of scene S from disk, augmented, voxelised and with targets, on one core.

The peer is the usual Python way, written out here: ``torch.load`` of a tuple, two elastic distortions by scipy, a loop over
instances for the targets, ``np.unique`` of rows for the voxels. Both sides draw the same random numbers and must agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import convolve
from torch.utils.data import DataLoader

from pc3d.bench.compare import Row, compare, measure
from pc3d.bench.scene import make_scene
from pc3d.config import ExperimentConfig
from pc3d.data import Sample, ScanDataset, TrainingSamples, collate
from pc3d.data.prepared import write_scene
from pc3d.errors import DataError, explain
from pc3d.structures import PointCloud
from pc3d.superpoints import compute_superpoints

SCALE = 50            # voxels a metre
PEER_ROUNDS = 3       # it takes tenths of a second
WORKERS, BATCH, BATCHES = 2, 4, 12

Array = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class UsualSample:
    """What the usual way makes of a scan."""

    features: NDArray[np.float32]   # (N, 9)
    voxels: NDArray[np.int64]       # (V, 3)
    point_to_voxel: NDArray[np.int64]
    masks: NDArray[np.bool_]        # (I, S)
    centers: NDArray[np.float64]    # (I, 3)


def run(rounds: int) -> Iterator[Row]:
    """One sample on one core beside the usual way, then batches from a loader with workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with TemporaryDirectory() as folder:
            scene = _write(Path(folder))
            samples = TrainingSamples(ScanDataset(folder, "train"), ExperimentConfig())
            yield _one_sample(samples, Path(folder) / "usual.pth", len(scene), rounds)
            yield _batches(samples, rounds)
    finally:
        torch.set_num_threads(threads)


def _write(root: Path) -> PointCloud:
    """Scene S as pc3d prepares it and as a tuple in a ``.pth`` file."""
    scene = compute_superpoints(make_scene())
    ids = scene.instances
    assert ids is not None
    scene = scene.replace(labels=np.where(ids > 1, ids % 18, -1), instances=np.where(ids > 1, ids - 2, -1), faces=None)
    write_scene(scene, root / "train" / "scene", {})
    (root / "classes.json").write_text("[" + ", ".join(f'"class {label}"' for label in range(18)) + "]")
    read = ScanDataset(root, "train")[0]   # its normals went through int8
    assert read.rgb is not None
    columns = (read.xyz.astype(np.float64), read.rgb / 127.5 - 1, read.labels, read.instances, read.superpoints, read.normals)
    torch.save(tuple(torch.from_numpy(np.array(column)) for column in columns), root / "usual.pth")
    return scene


def _one_sample(samples: TrainingSamples, path: Path, points: int, rounds: int) -> Row:
    seed = samples.config.train.seed
    row = compare("a training sample", lambda: samples[1, 0], lambda: usual_sample(path, np.random.default_rng([seed, 1, 0])),
                  min(rounds, PEER_ROUNDS), peer_name="torch.load, scipy, loops", same=_same, note=f"{points:,} points")
    return replace(row, figures={"samples_per_second": 1 / row.seconds})


def _batches(samples: TrainingSamples, rounds: int) -> Row:
    keys = [[(batch + 1, 0)] * BATCH for batch in range(BATCHES)]
    loader: DataLoader[Sample] = DataLoader(samples, batch_sampler=keys, num_workers=WORKERS, persistent_workers=True,
                                            collate_fn=partial(collate, backbone=samples.config.model.backbone))
    row = measure("batches from a loader", lambda: [batch.batch_size for batch in loader], min(rounds, PEER_ROUNDS),
                  note=f"{BATCHES} batches of {BATCH} scans, {WORKERS} worker processes, collated")
    return replace(row, figures={"samples_per_second": BATCH * BATCHES / row.seconds})


def _same(own: Sample, peer: UsualSample) -> None:
    voxels = own.voxel_coords[own.point_to_voxel]
    moved = (voxels != peer.voxels[peer.point_to_voxel]).any(axis=1).mean()
    assert own.targets is not None
    differences = {"features": np.abs(own.features - peer.features).max(), "points in another voxel": moved,
                   "masks": (own.targets.masks.numpy() != peer.masks).sum(),
                   "centres": np.abs(own.targets.centers.numpy() - peer.centers).max()}
    bounds = {"features": 1e-4, "points in another voxel": 1e-3, "masks": 0, "centres": 1e-4}   # float32 against float64
    for name, difference in differences.items():
        if not difference <= bounds[name]:
            raise DataError(explain(f"the two samples differ in {name}", got=f"{difference:.3g}", expected=bounds[name]))


def usual_sample(path: Path, rng: np.random.Generator) -> UsualSample:
    """A training sample as the public loaders of this family make it (relation3d.md 1.13)."""
    xyz, rgb, labels, ids, superpoints, normals = (t.numpy() for t in torch.load(path, weights_only=True))
    xyz = xyz - xyz.mean(0)
    matrix = np.eye(3) + 0.1 * rng.standard_normal((3, 3))
    if rng.random() < 0.5:
        matrix[0, 0] *= -1
    theta = rng.uniform(0, 2 * np.pi)
    matrix = matrix @ [[np.cos(theta), np.sin(theta), 0], [-np.sin(theta), np.cos(theta), 0], [0, 0, 1]]
    xyz, normals = xyz @ matrix, normals @ matrix
    rgb = rgb + 0.1 * rng.standard_normal(3)
    middle = _usual_elastic(_usual_elastic(xyz * SCALE, 6, 40, rng), 20, 160, rng)
    middle = middle - middle.min(0)
    superpoints = np.unique(superpoints, return_inverse=True)[1]
    masks, centers = _usual_targets(xyz, labels, ids, superpoints)
    voxels, point_to_voxel = np.unique(middle.astype(np.int64), axis=0, return_inverse=True)
    features = np.concatenate([rgb, xyz, normals], axis=1).astype(np.float32)
    return UsualSample(features, voxels, point_to_voxel.reshape(-1), masks, centers)


def _usual_elastic(xyz: NDArray[np.float64], granularity: float, magnitude: float,
                   rng: np.random.Generator) -> NDArray[np.float64]:
    size = (np.abs(xyz).max(0) // granularity + 3).astype(int)
    grids = [rng.standard_normal(size, dtype=np.float32) for _ in range(3)]
    for shape in ((3, 1, 1), (1, 3, 1), (1, 1, 3)) * 2:
        grids = [convolve(grid, np.full(shape, 1 / 3, dtype=np.float32), mode="constant") for grid in grids]
    axes = [np.linspace(-(nodes - 1) * granularity, (nodes - 1) * granularity, nodes) for nodes in size]
    read = [RegularGridInterpolator(axes, grid, bounds_error=False, fill_value=0) for grid in grids]
    return xyz + magnitude * np.stack([interpolate(xyz) for interpolate in read], axis=1)


def _usual_targets(xyz: NDArray[np.float64], labels: Array, ids: Array,
                   superpoints: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    sizes, masks, centers = np.bincount(superpoints), [], []
    for number in np.unique(ids[(ids >= 0) & (labels >= 0)]):
        mine = ids == number
        masks.append(np.bincount(superpoints, weights=mine) / sizes > 0.5)
        centers.append(xyz[mine].mean(0))
    return np.array(masks), np.array(centers)
