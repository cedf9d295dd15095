"""One scan as the network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.config import AugmentConfig, ModelConfig
from pc3d.data.targets import make_targets
from pc3d.errors import DataError, explain
from pc3d.ops import column_stats, map_points
from pc3d.structures import PointCloud, Targets
from pc3d.structures.ids import dense_ids
from pc3d.transforms import (
    as_tensor,
    elastic_distortion,
    point_features,
    random_crop,
    random_linear,
    voxelize,
)


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
    if len(cloud) == 0:
        return cloud
    points = as_tensor(cloud.xyz)
    mean = column_stats(points)[2].float()
    return cloud.replace(xyz=map_points(points, -mean).numpy(), origin=cloud.origin + mean.numpy())


def make_sample(cloud: PointCloud, model: ModelConfig, *, augment: AugmentConfig | None = None, max_points: int | None = None,
                rng: np.random.Generator | None = None) -> Sample:
    """Turn a cloud with superpoints (and normals) into a Sample; with ``augment``, a randomly changed one with targets.

    The order is the paper's: linear map, colour shift, elastic distortion of voxel positions only, crop.
    """
    if cloud.superpoints is None:
        raise DataError(explain("the scan has no superpoints", do="Call pc3d.superpoints.compute_superpoints(cloud) first."))
    cloud = center(cloud.replace(superpoints=dense_ids(cloud.superpoints)[1]))  # ids in a file may have gaps
    if augment is None:
        return _finish(cloud, model, _from_zero(_in_voxels(cloud, model)), with_targets=cloud.instances is not None)
    rng = rng or np.random.default_rng()
    cloud = _drop_columns(_drop_points(cloud, augment.keep_points, rng), augment, rng)
    cloud = random_linear(cloud, rng, jitter=augment.jitter, flip=augment.flip, rotate=augment.rotate, scale=augment.scale)
    color_shift = (augment.color_shift * rng.standard_normal(3)).tolist()
    positions = _in_voxels(cloud, model)
    for granularity, magnitude in augment.elastic:
        positions = elastic_distortion(positions, granularity, magnitude, rng, source=cloud.metadata.get("file"))
    positions = _from_zero(positions)
    if max_points is not None and len(cloud) > max_points:
        positions, keep = random_crop(positions, max_points, rng)
        cloud, positions = cloud[keep], positions[keep]
    return _finish(cloud, model, positions, color_shift, with_targets=True)


def _drop_points(cloud: PointCloud, keep: tuple[float, float], rng: np.random.Generator) -> PointCloud:
    if keep == (1.0, 1.0):
        return cloud
    stays = rng.random(len(cloud)) < rng.uniform(*keep)
    return cloud if stays.all() or not stays.any() else cloud[stays]


def _drop_columns(cloud: PointCloud, augment: AugmentConfig, rng: np.random.Generator) -> PointCloud:
    without_color = augment.drop_color > 0 and rng.random() < augment.drop_color
    without_normals = augment.drop_normals > 0 and rng.random() < augment.drop_normals
    return cloud.replace(rgb=None if without_color else cloud.rgb, normals=None if without_normals else cloud.normals)


def _in_voxels(cloud: PointCloud, model: ModelConfig) -> NDArray[np.float32]:
    return cloud.xyz * np.float32(1 / model.backbone.voxel_size)


def _from_zero(positions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Positions (N, 3) with the least of each axis at 0."""
    if not len(positions):
        return positions
    points = as_tensor(positions)
    return map_points(points, -column_stats(points)[0].float()).numpy()


def _finish(cloud: PointCloud, model: ModelConfig, positions: NDArray[np.float32], color_shift: Sequence[float] = (0, 0, 0), *,
            with_targets: bool) -> Sample:
    assert cloud.superpoints is not None
    voxel_coords, point_to_voxel = voxelize(positions, source=cloud.metadata.get("file"))
    features = point_features(cloud, use_rgb=model.use_rgb, use_normals=model.use_normals, color_shift=color_shift)
    targets = make_targets(cloud, model.loss.relation_labels) if with_targets else None
    return Sample(cloud.xyz, features, voxel_coords, point_to_voxel, cloud.superpoints, targets)
