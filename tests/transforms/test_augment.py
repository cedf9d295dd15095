"""Training augmentation: what changes, what does not."""

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.structures import PointCloud
from pc3d.transforms import elastic_distortion, random_crop, random_linear


@pytest.fixture
def cloud():
    rng = np.random.default_rng(0)
    normals = rng.standard_normal((500, 3))
    return PointCloud(xyz=rng.random((500, 3)) * 4, normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
                      labels=np.arange(500) % 3, instances=np.arange(500) % 7)


def test_rotation_alone_keeps_distances_and_heights(cloud):
    turned = random_linear(cloud, np.random.default_rng(1), jitter=0.0, flip=False)
    assert np.allclose(turned.xyz[:, 2], cloud.xyz[:, 2])
    before, after = (np.linalg.norm(c.xyz - c.xyz[0], axis=1) for c in (cloud, turned))
    assert np.allclose(before, after, atol=1e-5)
    assert not np.allclose(turned.xyz, cloud.xyz)


def test_normals_follow_the_linear_map_but_not_the_scale(cloud):
    doubled = random_linear(cloud, np.random.default_rng(1), jitter=0.0, flip=False, rotate=False, scale=(2.0, 2.0))
    assert np.allclose(doubled.xyz, 2 * cloud.xyz)
    assert np.allclose(doubled.normals, cloud.normals, atol=1e-6)


def test_flip_mirrors_x_in_about_half_of_the_draws(cloud):
    signs = [np.sign(random_linear(cloud, np.random.default_rng(s), jitter=0.0, rotate=False).xyz[0, 0]) for s in range(60)]
    assert 15 < sum(s < 0 for s in signs) < 45


def test_same_generator_gives_same_augmentation(cloud):
    a, b = (random_linear(cloud, np.random.default_rng(5)).xyz for _ in range(2))
    assert np.array_equal(a, b)


def test_elastic_distortion_is_smooth_and_moves_points():
    rng = np.random.default_rng(0)
    points = rng.random((2000, 3), dtype=np.float32) * 100
    moved = elastic_distortion(points, 6.0, 40.0, np.random.default_rng(1))
    shift = moved - points
    assert 0.5 < np.abs(shift).mean() < 20
    near = elastic_distortion(points + np.float32(0.01), 6.0, 40.0, np.random.default_rng(1)) - (points + np.float32(0.01))
    assert np.abs(near - shift).max() < 0.2


def test_crop_keeps_few_enough_points_in_one_box():
    points = np.random.default_rng(0).random((5000, 3), dtype=np.float32) * np.float32([900, 900, 100])
    moved, keep = random_crop(points, 2000, np.random.default_rng(1))
    assert 0 < keep.sum() <= 2000
    inside = points[keep]
    others = points[~keep]
    low, high = inside.min(axis=0), inside.max(axis=0)
    assert not ((others > low) & (others < high)).all(axis=1).any()
    assert moved[keep].min() >= 0
    assert moved[keep].max() < 512


def test_crop_of_a_narrow_column_keeps_some_points():
    points = np.random.default_rng(0).random((1000, 3), dtype=np.float32) * np.float32([1, 1, 100])
    assert random_crop(points, 100, np.random.default_rng(1))[1].sum() == 100


def test_crop_keeps_all_of_a_small_scan():
    points = np.zeros((10, 3), dtype=np.float32)
    moved, keep = random_crop(points, 10, np.random.default_rng(0))
    assert keep.all()
    assert np.array_equal(moved, points)


@pytest.mark.parametrize("seed", range(20))
def test_a_crop_between_the_parts_of_a_wide_scan_is_not_empty(seed):
    """Two rooms 3,000 voxels apart: a box of 512 that is put anywhere mostly holds no point."""
    rng = np.random.default_rng(seed)
    points = rng.random((2000, 3), dtype=np.float32) * np.float32([300, 300, 100])
    points[1000:] += np.float32([3000, 3000, 0])
    moved, keep = random_crop(points, 1500, rng)
    assert 0 < keep.sum() <= 1500
    assert moved[keep].min() >= 0
    assert moved[keep].max() < 512
    assert np.ptp(points[keep], axis=0).max() < 512


def test_a_crop_around_a_far_point_holds_it():
    """One outlier a kilometre away and the rest in one place: whichever point the box moves to, it is inside."""
    points = np.zeros((60, 3), dtype=np.float32)
    points[0] = 50_000
    for seed in range(200):
        moved, keep = random_crop(points, 59, np.random.default_rng(seed))
        assert 0 < keep.sum() <= 59
        assert moved[keep].min() >= 0
        assert moved[keep].max() < 512


def test_a_distortion_whose_grid_fits_no_memory_is_refused():
    points = np.float32([[0, 0, 0], [50_000, 50_000, 50_000]])
    with pytest.raises(DataError, match=r"far\.ply: the scan is too large to distort elastically; got 5e\+04"):
        elastic_distortion(points, 6.0, 40.0, np.random.default_rng(0), source="far.ply")
