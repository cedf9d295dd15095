"""Samples and batches."""

import numpy as np
import pytest

from pc3d.config import AugmentConfig, BackboneConfig, ModelConfig
from pc3d.data import collate, make_sample
from pc3d.errors import DataError
from pc3d.structures import PointCloud


def make_cloud(seed, points=400):
    rng = np.random.default_rng(seed)
    return PointCloud(xyz=rng.random((points, 3)) * 2 + 5, rgb=rng.integers(0, 256, (points, 3)),
                      normals=rng.random((points, 3)), superpoints=rng.permutation(points) % 20,
                      instances=rng.integers(-1, 4, points),
                      labels=rng.integers(0, 5, points))


def test_a_sample_is_centred_and_keeps_row_order():
    cloud = make_cloud(0)
    sample = make_sample(cloud, ModelConfig())
    assert np.allclose(sample.xyz.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(sample.xyz - sample.xyz[0], cloud.xyz - cloud.xyz[0], atol=1e-5)
    assert np.array_equal(sample.superpoints, cloud.superpoints)


def test_batch_ids_are_unique_and_scans_do_not_mix():
    samples = [make_sample(make_cloud(s, points), ModelConfig()) for s, points in ((0, 300), (1, 200))]
    batch = collate(samples, BackboneConfig())
    assert batch.offsets.tolist() == [0, 300, 500]
    assert batch.superpoint_offsets.tolist() == [0, 20, 40]
    assert batch.voxel_coords[batch.point_to_voxel[:300], 0].unique().tolist() == [0]
    assert batch.voxel_coords[batch.point_to_voxel[300:], 0].unique().tolist() == [1]
    assert batch.point_to_superpoint[300:].min() == 20
    assert all(size % 16 == 0 for size in batch.spatial_shape)


def test_augmented_samples_repeat_with_their_generator_and_features_keep_unelastic_positions():
    cloud, augment = make_cloud(0), AugmentConfig()
    a, b = (make_sample(cloud, ModelConfig(), augment=augment, rng=np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(a.features, b.features)
    assert np.array_equal(a.voxel_coords, b.voxel_coords)
    assert np.allclose(a.features[:, 3:6], a.xyz)


def test_crops_respect_the_point_limit_and_keep_superpoints_dense():
    cloud = make_cloud(0, 2000).replace(xyz=np.random.default_rng(0).random((2000, 3)) * 20)
    sample = make_sample(cloud, ModelConfig(), augment=AugmentConfig(), max_points=500, rng=np.random.default_rng(0))
    assert len(sample.xyz) <= 500
    assert set(sample.superpoints) == set(range(sample.superpoints.max() + 1))
    assert sample.targets.masks.shape[1] == sample.superpoints.max() + 1


def test_dropped_columns_are_zero():
    sample = make_sample(make_cloud(0), ModelConfig(), augment=AugmentConfig(drop_color=1.0, drop_normals=1.0, color_shift=0.0),
                         rng=np.random.default_rng(0))
    assert not sample.features[:, :3].any()
    assert not sample.features[:, 6:].any()


def test_superpoint_ids_with_gaps_become_dense():
    cloud = make_cloud(0)
    gappy = cloud.replace(superpoints=cloud.superpoints * 1000 + 7)
    assert np.array_equal(make_sample(gappy, ModelConfig()).superpoints, cloud.superpoints)


def test_a_cloud_without_superpoints_says_what_to_do():
    with pytest.raises(DataError, match="compute_superpoints"):
        make_sample(PointCloud(xyz=np.zeros((3, 3))), ModelConfig())


def test_dropping_points_keeps_their_share_and_dense_superpoints():
    thinned = AugmentConfig(keep_points=(0.3, 0.3))
    sample = make_sample(make_cloud(0), ModelConfig(), augment=thinned, rng=np.random.default_rng(0))
    assert 80 < len(sample.xyz) < 160
    assert set(sample.superpoints) == set(range(sample.superpoints.max() + 1))
