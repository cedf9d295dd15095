"""A training sample against the published augmentation, written out step by step in numpy and scipy.

Relation3D's loader (relatives: SPFormer, MAFT, SoftGroup): matrix, colour, elastic twice, crop, numbers anew. The slow steps
below know nothing of pc3d; both sides draw from generators of the same seed.
"""

import numpy as np
import pytest
import scipy.interpolate
import scipy.ndimage

from pc3d.config import AugmentConfig, ModelConfig
from pc3d.data import make_sample
from pc3d.structures import PointCloud

SCALE = 50


def literal_matrix(rng):
    matrix = np.eye(3) + 0.1 * rng.standard_normal((3, 3))
    if rng.random() < 0.5:
        matrix[0][0] = -matrix[0][0]
    theta = rng.uniform(0, 2 * np.pi)
    return matrix @ [[np.cos(theta), np.sin(theta), 0], [-np.sin(theta), np.cos(theta), 0], [0, 0, 1]]


def literal_elastic(x, gran, mag, rng):
    blur = [np.ones(shape, dtype=np.float32) / 3 for shape in ((3, 1, 1), (1, 3, 1), (1, 1, 3))]
    sizes = (np.abs(x).max(0) // gran + 3).astype(int)
    noise = [rng.standard_normal(sizes, dtype=np.float32) for _ in range(3)]
    for kernel in blur + blur:
        noise = [scipy.ndimage.convolve(n, kernel, mode="constant", cval=0) for n in noise]
    axes = [np.linspace(-(b - 1) * gran, (b - 1) * gran, b) for b in sizes]
    read = [scipy.interpolate.RegularGridInterpolator(axes, n, bounds_error=False, fill_value=0) for n in noise]
    return x + mag * np.stack([r(x) for r in read], axis=1)


def literal_crop(xyz, max_points, rng):
    kept, moved = np.ones(len(xyz), dtype=bool), xyz
    full_scale = np.array([512.0] * 3)
    room_range = xyz.max(0) - xyz.min(0)
    while kept.sum() > max_points:
        offset = np.clip(full_scale - room_range + 0.001, None, 0) * rng.random(3)
        moved = xyz + offset
        kept = (moved.min(1) >= 0) & ((moved < full_scale).sum(1) == 3)
        full_scale[:2] -= 32
    return moved, kept


def literal_sample(cloud, max_points, rng):
    """(features, voxel of each point, superpoints, rows kept) of one scan."""
    xyz = cloud.xyz.astype(np.float64)
    xyz = xyz - xyz.mean(0)
    matrix = literal_matrix(rng)
    xyz, normals = xyz @ matrix, cloud.normals.astype(np.float64) @ matrix
    rgb = cloud.rgb / 127.5 - 1 + 0.1 * rng.standard_normal(3)
    middle = literal_elastic(literal_elastic(xyz * SCALE, 6, 40, rng), 20, 160, rng)
    middle, kept = literal_crop(middle - middle.min(0), max_points, rng)
    superpoints = np.unique(cloud.superpoints[kept], return_inverse=True)[1]
    return np.concatenate([rgb, xyz, normals], 1)[kept], middle[kept], superpoints, kept


def literal_targets(xyz, labels, ids, superpoints):
    """By a loop over instances: label, share of each superpoint over one half, mean of the points."""
    rows = []
    for number in sorted(set(ids[(ids >= 0) & (labels >= 0)].tolist())):
        mine = (ids == number) & (labels >= 0)
        share = [mine[superpoints == s].mean() for s in range(superpoints.max() + 1)]
        rows.append((labels[mine][0], np.array(share) > 0.5, xyz[mine].mean(0)))
    return rows


def make_room(seed, points=6000, size=(4.0, 3.0, 1.5)):
    rng = np.random.default_rng(seed)
    xyz = rng.random((points, 3)) * size + 20
    normals = rng.standard_normal((points, 3))
    blocks = np.floor((xyz - 20) / 0.7).astype(int) @ [100, 10, 1]
    instances = np.where(rng.random(points) < 0.2, -1, blocks % 7)
    return PointCloud(xyz=xyz, rgb=rng.integers(0, 256, (points, 3)), superpoints=np.unique(blocks, return_inverse=True)[1],
                      normals=normals / np.linalg.norm(normals, axis=1, keepdims=True), instances=instances,
                      labels=np.where(instances == 3, -1, np.maximum(instances, 0) % 4))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("max_points", "size"), [(10_000, (4.0, 3.0, 1.5)), (2_500, (16.0, 13.0, 1.5))])
def test_a_sample_is_the_published_augmentation(seed, max_points, size):
    cloud = make_room(seed, size=size)
    sample = make_sample(cloud, ModelConfig(), augment=AugmentConfig(), max_points=max_points, rng=np.random.default_rng(seed))
    features, middle, superpoints, kept = literal_sample(cloud, max_points, np.random.default_rng(seed))
    assert kept.all() == (max_points == 10_000)
    np.testing.assert_allclose(sample.features, features, rtol=0, atol=2e-5)
    np.testing.assert_allclose(sample.xyz, features[:, 3:6], rtol=0, atol=2e-5)
    assert np.array_equal(sample.superpoints, superpoints)

    voxels = sample.voxel_coords[sample.point_to_voxel]
    border = (np.abs(middle - np.rint(middle)) < 2e-3).any(axis=1)   # float32 may round across the border of a voxel
    assert border.mean() < 0.05
    assert np.array_equal(voxels[~border], middle.astype(int)[~border])

    expected = literal_targets(features[:, 3:6], cloud.labels[kept], cloud.instances[kept], superpoints)
    assert sample.targets.labels.tolist() == [label for label, _, _ in expected]
    assert np.array_equal(sample.targets.masks.numpy(), [mask for _, mask, _ in expected])
    np.testing.assert_allclose(sample.targets.centers.numpy(), [center for _, _, center in expected], rtol=0, atol=2e-5)


def test_the_random_steps_are_as_likely_as_published():
    """Half of the scans are mirrored, and the jitter has sigma 0.1: what the seed alone does not show."""
    matrices = np.array([literal_matrix(np.random.default_rng(seed)) for seed in range(400)])
    cloud = PointCloud(xyz=np.eye(3) - 1 / 3, superpoints=np.zeros(3), rgb=np.zeros((3, 3)), normals=np.eye(3))
    still = AugmentConfig(elastic=())
    turned = np.array([make_sample(cloud, ModelConfig(), augment=still, rng=np.random.default_rng(seed)).features[:, 6:]
                       for seed in range(400)])
    np.testing.assert_allclose(turned, matrices, rtol=0, atol=1e-6)
    assert 0.4 < (np.linalg.det(matrices) < 0).mean() < 0.6
    assert 0.09 < (matrices[:, 2, 2] - 1).std() < 0.11
