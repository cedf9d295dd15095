"""Ops of samples: elastic distortion and voxel ids, native against reference, and what they promise."""

import numpy as np
import pytest
import torch

from pc3d.errors import DataError
from pc3d.ops import (
    column_stats,
    elastic,
    instance_rows,
    instance_sums,
    map_points,
    point_features,
    unit_normals,
    voxel_ids,
)
from pc3d.ops.column_stats import _reference as stats_reference
from pc3d.ops.elastic import _reference as elastic_reference
from pc3d.ops.instance_rows import _reference as rows_reference
from pc3d.ops.instance_sums import _reference as sums_reference
from pc3d.ops.map_points import _reference as map_reference
from pc3d.ops.point_features import _reference as features_reference
from pc3d.ops.unit_normals import _reference as normals_reference
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


@pytest.mark.parametrize("spread", [0.5, 3.0, 60.0, 150.0, 700.0, 65_000.0])  # crowded grids are numbered without sorting
@pytest.mark.parametrize("flat", [False, True])
def test_voxel_ids_are_their_reference(spread, flat):
    points = make_points(4000, spread) + spread / 2
    points = points * torch.tensor([1.0, 0.01, 1.0]) if flat else points
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


@pytest.mark.parametrize("count", [1, 3, 4, 5, 63, 1000])
def test_column_stats_are_their_reference(count):
    points = make_points(count) - 7
    low, high, mean = column_stats(points)
    expected = stats_reference(points)
    assert torch.equal(low, expected[0])
    assert torch.equal(high, expected[1])
    assert torch.allclose(mean, expected[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("row", [0, 3, 8])
def test_column_stats_tell_of_numbers_that_are_none(row):
    points = make_points(9)
    points[row, 1] = float("nan")
    points[1, 2] = float("inf")
    stats = torch.stack(column_stats(points))
    assert stats[:, 1].isnan().all()
    assert torch.equal(stats.nan_to_num(), stats_reference(points).nan_to_num())
    with pytest.raises(DataError, match="no points"):
        column_stats(points[:0])


@pytest.mark.parametrize("count", [0, 1, 6, 1000])
def test_map_points_are_their_reference(count):
    points, shift = make_points(count), torch.tensor([0.5, -2.0, 3.25])
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(map_points(points, shift), map_reference(points, shift, matrix[:0]))
    assert torch.equal(map_points(points, shift, matrix), map_reference(points, shift, matrix))
    assert torch.allclose(map_points(points, shift, matrix), (points + shift) @ matrix, atol=1e-4)
    with pytest.raises(DataError, match="matrix has the wrong"):
        map_points(points, shift, matrix[:2])


def test_unit_normals_are_their_reference():
    every = torch.cartesian_prod(*[torch.tensor([-128, -127, -90, -1, 0, 1, 2, 64, 127]).char()] * 3)
    normals = unit_normals(every)
    assert torch.equal(normals, normals_reference(every))
    assert torch.allclose(normals.norm(dim=1)[every.any(dim=1)], torch.ones(()), atol=1e-6)
    assert not normals[~every.any(dim=1)].any()
    with pytest.raises(DataError, match="unit_normals"):
        unit_normals(every.int())


@pytest.mark.parametrize(("count", "ids", "labels"), [(0, 3, 4), (1, 1, 1), (500, 6, 4), (500, 10**12, 4), (40, 41, 10**18),
                                                      (500, 6, 3000), (500, 2**63 - 1, 2**63 - 1)])
@pytest.mark.parametrize("by_label", [False, True])
def test_instance_rows_are_their_reference(count, ids, labels, by_label):
    rng = torch.Generator().manual_seed(count)
    label, instance = (torch.randint(-1, most, (count,), generator=rng) for most in (labels, ids))
    instance[::3] = instance[:len(instance[::3])].clone()
    arguments = (label, instance, max(labels - 1, 1))
    for own, expected in zip(instance_rows(*arguments, by_label=by_label), rows_reference(*arguments, by_label)):
        assert torch.equal(own, expected)


def test_an_instance_has_the_label_of_its_first_point_and_needs_one():
    labels, ids = torch.tensor([-1, 5, 2, 7, -1, 3]), torch.tensor([9, 9, 4, 9, 4, -1])
    found, sizes, rows = instance_rows(labels, ids, 8)
    assert found.tolist() == [2, 5]
    assert sizes.tolist() == [1, 2]
    assert rows.tolist() == [-1, 1, 0, 1, -1, -1]
    found, sizes, rows = instance_rows(labels, ids, 6, by_label=True)  # and 7 is no label
    assert found.tolist() == [2, 5]
    assert rows.tolist() == [-1, 1, 0, -1, -1, -1]
    assert instance_rows(labels, ids, 8, by_label=True)[2].tolist() == [-1, 1, 0, 2, -1, -1]
    with pytest.raises(DataError, match="instances has the wrong"):
        instance_rows(labels, ids[:2], 8)
