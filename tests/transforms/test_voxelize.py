"""Voxels and features."""

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.structures import PointCloud
from pc3d.transforms import point_features, spatial_shape, voxelize


def test_every_point_lies_in_its_voxel():
    points = np.random.default_rng(0).random((3000, 3), dtype=np.float32) * 30 + 7
    coords, point_to_voxel = voxelize(points)
    assert np.array_equal(coords[point_to_voxel], np.floor(points))
    assert np.array_equal(np.unique(coords, axis=0), coords)


def test_all_points_in_one_voxel():
    coords, point_to_voxel = voxelize(np.full((5, 3), 2.5, dtype=np.float32))
    assert coords.tolist() == [[2, 2, 2]]
    assert point_to_voxel.tolist() == [0] * 5


def test_no_points_give_no_voxels():
    coords, point_to_voxel = voxelize(np.zeros((0, 3), dtype=np.float32))
    assert coords.shape == (0, 3)
    assert point_to_voxel.shape == (0,)


@pytest.mark.parametrize("far", [7e4, 2e6, 1e30, np.inf, np.nan])
def test_a_scan_too_large_to_voxelise_is_refused_and_named(far):
    with pytest.raises(DataError, match=r"room\.ply.*too large"):
        voxelize(np.array([[0.0, 0, 0], [0, far, 0]], dtype=np.float32), source="room.ply")


def test_features_are_rgb_xyz_normal():
    cloud = PointCloud(xyz=np.array([[1, 2, 3]]), rgb=np.array([[0, 255, 0]]), normals=np.array([[0, 0, 1]]))
    assert point_features(cloud).tolist() == [[-1, 1, -1, 1, 2, 3, 0, 0, 1]]
    assert np.allclose(point_features(cloud, color_shift=(0.5, 0, 0))[0, :3], [-0.5, 1, -1])


def test_missing_colour_and_normals_become_zeros():
    cloud = PointCloud(xyz=np.ones((2, 3)))
    assert point_features(cloud).tolist() == [[0, 0, 0, 1, 1, 1, 0, 0, 0]] * 2
    assert point_features(cloud, use_rgb=False, use_normals=False).shape == (2, 3)


@pytest.mark.parametrize(("rule", "expected"), [("batch", (128, 201, 128)), ("even", (16, 208, 112))])
def test_spatial_shape_rules(rule, expected):
    assert spatial_shape((9, 200, 100), 5, rule) == expected
