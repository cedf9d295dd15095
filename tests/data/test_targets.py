"""Targets: ground truth on superpoints."""

import numpy as np

from pc3d.data import make_targets
from pc3d.structures import PointCloud


def make_cloud(superpoints, instances, labels):
    rng = np.random.default_rng(0)
    return PointCloud(xyz=rng.random((len(superpoints), 3)), superpoints=np.array(superpoints),
                      instances=np.array(instances), labels=np.array(labels))


def test_a_superpoint_belongs_to_an_instance_with_more_than_half_of_its_points():
    cloud = make_cloud([0, 0, 0, 0, 1, 1, 2], [5, 5, 5, -1, 5, 9, 9], [2, 2, 2, -1, 2, 0, 0])
    targets = make_targets(cloud)
    assert targets.labels.tolist() == [2, 0]
    assert targets.masks.tolist() == [[True, False, False], [False, False, True]]  # exactly half is not more than half


def test_the_centre_is_the_mean_of_the_points_not_of_the_superpoints():
    cloud = make_cloud([0, 0, 1], [3, 3, 3], [1, 1, 1])
    assert np.allclose(make_targets(cloud).centers[0], cloud.xyz.mean(axis=0), atol=1e-6)


def test_instances_without_a_class_are_left_out():
    targets = make_targets(make_cloud([0, 1], [0, 1], [-1, 3]))
    assert targets.labels.tolist() == [3]
    assert targets.masks.tolist() == [[False, True]]


def test_relation_labels_majority_and_floor_mean():
    cloud = make_cloud([0, 0, 0, 1, 1, 2, 2], [0, 0, 1, -1, -1, 0, 1], [1, 1, 1, -1, -1, 1, 1])
    assert make_targets(cloud).superpoint_instances.tolist() == [0, -1, 0]
    floor = make_targets(cloud, "floor_mean").superpoint_instances.tolist()
    assert floor == [0, -100, 0]
    mixed = make_cloud([0, 0], [0, -1], [1, -1])
    assert make_targets(mixed, "floor_mean").superpoint_instances.tolist() == [-50]


def test_a_scan_without_instances_has_empty_targets():
    targets = make_targets(make_cloud([0, 1, 1], [-1, -1, -1], [-1, -1, -1]))
    assert targets.masks.shape == (0, 2)
    assert targets.superpoint_instances.tolist() == [-1, -1]
