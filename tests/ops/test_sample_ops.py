"""Ops of samples: elastic distortion and voxel ids, native against reference, and what they promise."""

import numpy as np
import pytest
import torch

from pc3d.errors import DataError
from pc3d.ops import elastic, instance_sums, point_features, voxel_ids
from pc3d.ops.elastic import _reference as elastic_reference
from pc3d.ops.instance_sums import _reference as sums_reference
from pc3d.ops.point_features import _reference as features_reference
from pc3d.ops.voxel_ids import _reference as voxel_reference


def make_points(count, spread=40.0, seed=0):
    return (torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 0.5) * spread


def make_noise(*size, seed=1):
    return torch.randn(3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("count", "size"), [(0, (3, 3, 3)), (1, (2, 2, 2)), (5000, (7, 6, 5)), (5000, (2, 9, 3))])
def test_elastic_is_its_reference_bit_for_bit(count, size):
    points, noise = make_points(count), make_noise(*size)
    assert torch.equal(elastic(points, noise, 3.0, 40.0), elastic_reference(points, noise, 3.0, 40.0))


def test_elastic_does_not_depend_on_threads_or_strides():
    points, noise = make_points(20_000), make_noise(9, 8, 7)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(elastic(points, noise, 3.0, 40.0))
    finally:
        torch.set_num_threads(threads)
    strided = elastic(points.T.contiguous().T, noise.permute(0, 3, 2, 1).contiguous().permute(0, 3, 2, 1), 3.0, 40.0)
    assert all(torch.equal(result, results[0]) for result in [*results, strided])


def test_elastic_reads_its_grid_linearly_and_leaves_what_lies_outside():
    noise = torch.zeros(3, 4, 3, 3)
    noise[0, 2, 1, 1], noise[1, 2, 1, 1] = 27.0**2, -(27.0**2)   # a box of 27 nodes twice: 9 of 9 at the node itself ...
    nodes = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 0, 0], [3.1, 0, 0]])   # nodes 2, 1, between them, beyond the border
    shift = elastic(nodes, noise, 1.0, 1.0) - nodes
    axis = torch.tensor([0.0, 0, 1, 0])
    for _ in range(2):
        axis = torch.nn.functional.avg_pool1d(axis[None], 3, 1, 1)[0]
    across = torch.tensor([0.0, 1, 0])
    for _ in range(2):
        across = torch.nn.functional.avg_pool1d(across[None], 3, 1, 1)[0]
    expected = 27.0**2 * axis * across[1] ** 2
    assert torch.allclose(shift[:2, 0], expected[[2, 1]], rtol=1e-5)
    assert torch.allclose(shift[2, 0], expected[1:3].mean(), rtol=1e-5)
    assert torch.equal(shift[:, 1], -shift[:, 0])
    assert not shift[3].any()
    assert not shift[:, 2].any()


def test_elastic_of_a_point_that_is_no_number_stays_so():
    points = torch.tensor([[float("nan"), 0, 0], [float("inf"), 0, 0], [0, 0, 0]])
    moved = elastic(points, make_noise(3, 3, 3), 1.0, 1.0)
    assert moved[0, 0].isnan()
    assert moved[1, 0].isinf()
    assert moved[2].isfinite().all()


@pytest.mark.parametrize(("points", "noise", "granularity"), [
    (make_points(3).double(), make_noise(3, 3, 3), 1.0), (make_points(3), make_noise(3, 3, 1), 1.0),
    (make_points(3), make_noise(3, 3, 3)[0], 1.0), (make_points(3), make_noise(3, 3, 3), 0.0)])
def test_elastic_refuses_what_does_not_fit(points, noise, granularity):
    with pytest.raises(DataError, match="elastic"):
        elastic(points, noise, granularity, 1.0)


@pytest.mark.parametrize("spread", [0.5, 3.0, 700.0, 65_000.0])
def test_voxel_ids_are_their_reference(spread):
    points = make_points(4000, spread) + spread / 2
    for own, expected in zip(voxel_ids(points), voxel_reference(points)):
        assert torch.equal(own, expected)
        assert own.dtype == expected.dtype


def test_voxel_ids_of_nothing_and_of_the_border():
    coords, voxel = voxel_ids(torch.zeros(0, 3))
    assert coords.shape == (0, 3)
    assert voxel.shape == (0,)
    coords, voxel = voxel_ids(torch.tensor([[65535.5, 0, 0], [0.999, 65535, 1.0], [65535.0, 0.5, 0.999]]))
    assert coords.tolist() == [[0, 65535, 1], [65535, 0, 0]]
    assert voxel.tolist() == [1, 0, 1]


@pytest.mark.parametrize("bad", [-0.001, 65536.0, np.nan, np.inf])
def test_voxel_ids_refuse_positions_out_of_range(bad):
    with pytest.raises(DataError, match="out of range"):
        voxel_ids(torch.tensor([[0.0, 0, 0], [0, bad, 0]]))


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_point_features_are_their_reference(count):
    rng = torch.Generator().manual_seed(0)
    rgb = torch.randint(0, 256, (count, 3), generator=rng, dtype=torch.uint8)
    xyz, normals, shift = make_points(count), make_points(count, seed=1), torch.tensor([0.1, -0.2, 0.3])
    assert torch.equal(point_features(rgb, xyz, normals, shift), features_reference(rgb, xyz, normals, shift))
    bare = point_features(None, xyz, None, shift)
    assert torch.equal(bare[:, 3:6], xyz)
    assert not bare[:, [0, 1, 2, 6, 7, 8]].any()


def test_point_features_refuse_columns_of_another_length():
    with pytest.raises(DataError, match="rgb has the wrong"):
        point_features(torch.zeros(2, 3, dtype=torch.uint8), make_points(3), None, torch.zeros(3))


@pytest.mark.parametrize(("count", "instances", "superpoints"), [(0, 0, 0), (5, 0, 1), (2000, 7, 30)])
def test_instance_sums_are_their_reference(count, instances, superpoints):
    rng = torch.Generator().manual_seed(1)
    instance = torch.randint(-1, max(instances, 0), (count,), generator=rng) if instances else torch.full((count,), -1)
    superpoint = torch.randint(0, max(superpoints, 1), (count,), generator=rng)
    arguments = (instance, superpoint, make_points(count), instances, superpoints)
    counts, sums = instance_sums(*arguments)
    expected, expected_sums = sums_reference(*arguments)
    assert torch.equal(counts, expected)
    assert counts.sum() == count
    assert torch.allclose(sums, expected_sums, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("instance", "superpoint"), [([0, 2], [0, 0]), ([0, -2], [0, 0]), ([0, 1], [0, 3]), ([0, 1], [-1, 0])])
def test_instance_sums_refuse_ids_out_of_range(instance, superpoint):
    with pytest.raises(DataError, match="instance_sums"):
        instance_sums(torch.tensor(instance), torch.tensor(superpoint), make_points(2), 2, 3)
