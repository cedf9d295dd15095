"""One scan as the network sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.config import AugmentConfig, ModelConfig
from pc3d.data.targets import make_targets
from pc3d.errors import DataError, explain
from pc3d.structures import PointCloud, Targets
from pc3d.transforms import elastic_distortion, point_features, random_crop, random_linear, voxelize


@dataclass(frozen=True, eq=False)
class Sample:
    """Arrays of one scan, ready to be packed into a PointBatch."""

    xyz: NDArray[np.float32]            # (N, 3) metres, centred
    features: NDArray[np.float32]       # (N, C)
    voxel_coords: NDArray[np.int32]     # (V, 3)
    point_to_voxel: NDArray[np.int64]   # (N,)
    superpoints: NDArray[np.int64]      # (N,) dense
    targets: Targets | None = None


def center(cloud: PointCloud) -> PointCloud:
    """Move the mean of the points to zero; ``origin`` keeps world coordinates as they were."""
    mean = cloud.xyz.mean(axis=0, dtype=np.float64) if len(cloud) else np.zeros(3)
    return cloud.replace(xyz=(cloud.xyz - mean).astype(np.float32), origin=cloud.origin + mean)


def make_sample(cloud: PointCloud, model: ModelConfig, *, augment: AugmentConfig | None = None, max_points: int | None = None,
                rng: np.random.Generator | None = None) -> Sample:
    """Turn a cloud with superpoints (and normals) into a Sample; with ``augment``, a randomly changed one with targets.

    The order is the paper's: linear map, colour shift, elastic distortion of voxel positions only, crop.
    """
    if cloud.superpoints is None:
        raise DataError(explain("the scan has no superpoints", do="Call pc3d.superpoints.compute_superpoints(cloud) first."))
    dense = np.unique(cloud.superpoints, return_inverse=True)[1].reshape(-1)  # ids in a file may have gaps
    cloud = center(cloud.replace(superpoints=dense))
    if augment is None:
        positions = cloud.xyz / model.backbone.voxel_size
        return _finish(cloud, model, positions, (0.0, 0.0, 0.0), with_targets=cloud.instances is not None)
    rng = rng or np.random.default_rng()
    cloud = _drop_columns(_drop_points(cloud, augment.keep_points, rng), augment, rng)
    cloud = random_linear(cloud, rng, jitter=augment.jitter, flip=augment.flip, rotate=augment.rotate, scale=augment.scale)
    positions = cloud.xyz / model.backbone.voxel_size
    for granularity, magnitude in augment.elastic:
        positions = elastic_distortion(positions, granularity, magnitude, rng)
    if max_points is not None and len(cloud) > max_points:
        keep = random_crop(positions, max_points, rng)
        cloud, positions = cloud[keep], positions[keep]
    return _finish(cloud, model, positions, tuple(augment.color_shift * rng.standard_normal(3)), with_targets=True)


def _drop_points(cloud: PointCloud, keep: tuple[float, float], rng: np.random.Generator) -> PointCloud:
    stays = rng.random(len(cloud)) < rng.uniform(*keep)
    return cloud if stays.all() or not stays.any() else cloud[stays]


def _drop_columns(cloud: PointCloud, augment: AugmentConfig, rng: np.random.Generator) -> PointCloud:
    without_color, without_normals = rng.random() < augment.drop_color, rng.random() < augment.drop_normals
    return cloud.replace(rgb=None if without_color else cloud.rgb, normals=None if without_normals else cloud.normals)


def _finish(cloud: PointCloud, model: ModelConfig, positions: NDArray[np.float32], color_shift: tuple[float, ...], *,
            with_targets: bool) -> Sample:
    assert cloud.superpoints is not None
    voxel_coords, point_to_voxel = voxelize(positions, source=cloud.metadata.get("file"))
    features = point_features(cloud, use_rgb=model.use_rgb, use_normals=model.use_normals, color_shift=color_shift)
    targets = make_targets(cloud, model.loss.relation_labels) if with_targets else None
    return Sample(cloud.xyz, features, voxel_coords, point_to_voxel, cloud.superpoints, targets)
