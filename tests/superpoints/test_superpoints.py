"""Superpoints of a box room, as a mesh and as a bare cloud, and of scans that are hardly there."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.structures import PointCloud
from pc3d.superpoints import cloud_normals, complete, compute_superpoints, mesh_normals, segment_cloud, segment_mesh


def purity(superpoints: np.ndarray, truth: np.ndarray) -> float:
    """Share of points that are of the commonest class in their superpoint."""
    counts = np.zeros((superpoints.max() + 1, truth.max() + 1))
    np.add.at(counts, (superpoints, truth), 1)
    return float(counts.max(1).sum() / len(superpoints))


def assert_dense(superpoints: np.ndarray) -> None:
    first = np.unique(superpoints, return_index=True)[1]
    assert superpoints.dtype == np.int64
    assert np.array_equal(superpoints[np.sort(first)], np.arange(len(first)))


def with_noise(xyz: np.ndarray, metres: float) -> np.ndarray:
    return (xyz + np.random.default_rng(0).normal(0, metres, xyz.shape)).astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.004])
def test_mesh_superpoints_do_not_straddle_walls(box_room, noise: float) -> None:
    superpoints = segment_mesh(with_noise(box_room.xyz, noise), box_room.faces)
    assert_dense(superpoints)
    assert purity(superpoints, box_room.sides) >= 0.95
    assert 6 <= superpoints.max() + 1 <= len(superpoints) / 20
    assert np.bincount(superpoints).min() >= 20


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.004])
def test_cloud_superpoints_do_not_straddle_walls(box_room, noise: float) -> None:
    superpoints = segment_cloud(with_noise(box_room.xyz, noise))
    assert_dense(superpoints)
    assert purity(superpoints, box_room.sides) >= 0.95
    assert 6 <= superpoints.max() + 1 <= len(superpoints) / 20


def test_superpoints_of_a_cloud_are_like_those_of_its_mesh(box_room) -> None:
    xyz = with_noise(box_room.xyz, 0.001)
    on_mesh, on_cloud = segment_mesh(xyz, box_room.faces), segment_cloud(xyz)
    assert purity(on_cloud, on_mesh) > 0.8
    assert purity(on_mesh, on_cloud) > 0.8


def test_colours_split_what_normals_do_not() -> None:
    u, v = np.meshgrid(np.arange(60), np.arange(30), indexing="ij")
    xyz = 0.02 * np.stack([u, v, 0 * u], axis=2).reshape(-1, 3)
    rgb = np.where((u < 30).reshape(-1, 1), [220, 30, 30], [30, 30, 220]).astype(np.uint8)
    assert segment_cloud(xyz).max() == 0
    superpoints = segment_cloud(xyz, rgb=rgb)
    assert purity(superpoints, (u.ravel() < 30).astype(int)) == 1
    assert segment_cloud(xyz, rgb=rgb, color_weight=0.0).max() == 0


def test_signs_and_lengths_of_given_normals_do_not_matter(box_room) -> None:
    normals = mesh_normals(box_room.xyz, box_room.faces)
    flips = np.random.default_rng(0).choice([-3.0, 1.0], size=(len(normals), 1))
    assert np.array_equal(segment_cloud(box_room.xyz, normals=normals), segment_cloud(box_room.xyz, normals=normals * flips))


def test_normals_of_a_room_face_inwards_with_and_without_its_mesh(box_room) -> None:
    centre = box_room.xyz.mean(0)
    for normals in (mesh_normals(box_room.xyz, box_room.faces), cloud_normals(box_room.xyz)):
        assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
        assert ((normals * (centre - box_room.xyz)).sum(1) > 0).all()
    outwards = cloud_normals(box_room.xyz, viewpoint=centre + np.array([0, 0, 50]))
    assert outwards[np.argmin(box_room.xyz[:, 2])][2] > 0


def test_map_coordinates_give_the_superpoints_of_local_ones(box_room) -> None:
    far = box_room.xyz.astype(np.float64) + np.array([500000, 5000000, 100])
    near = box_room.xyz.astype(np.float64) + np.array([1, 2, 3])
    assert purity(segment_mesh(far, box_room.faces), segment_mesh(near, box_room.faces)) > 0.99
    assert purity(segment_cloud(far), segment_cloud(near)) > 0.99


def test_shuffled_points_keep_their_cloud_superpoints_apart(box_room) -> None:
    shuffle = np.random.default_rng(0).permutation(len(box_room.xyz))
    noisy = with_noise(box_room.xyz, 0.001)
    assert purity(segment_cloud(noisy[shuffle]), segment_cloud(noisy)[shuffle]) > 0.9


@pytest.mark.parametrize("count", [0, 1, 2, 19])
def test_scans_of_few_points_get_superpoints(count: int) -> None:
    xyz = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    cloud = compute_superpoints(PointCloud(xyz=xyz))
    assert len(cloud.superpoints) == len(cloud.normals) == count
    assert_dense(cloud.superpoints) if count else None
    assert len(segment_mesh(xyz, np.zeros((0, 3)))) == count


def test_equal_points_and_an_outlier_make_no_trouble() -> None:
    xyz = np.full((200, 3), 7.0, dtype=np.float32)
    assert compute_superpoints(PointCloud(xyz=xyz)).superpoints.max() == 0
    xyz[50] = 1e7
    assert np.isfinite(compute_superpoints(PointCloud(xyz=xyz)).normals).all()


def test_faces_without_area_and_lonely_vertices_make_no_trouble(box_room) -> None:
    xyz = np.concatenate([box_room.xyz, [[9, 9, 9]]]).astype(np.float32)
    faces = np.concatenate([box_room.faces, [[0, 0, 1], [5, 5, 5]]])
    cloud = compute_superpoints(PointCloud(xyz=xyz, faces=faces))
    assert np.isfinite(cloud.normals).all()
    assert (cloud.superpoints[-1] != cloud.superpoints[:-1]).all()
    assert purity(cloud.superpoints[:-1], box_room.sides) >= 0.95


def test_triangles_that_share_no_vertices_are_welded(box_room) -> None:
    soup = PointCloud(xyz=box_room.xyz[box_room.faces].reshape(-1, 3), faces=np.arange(3 * len(box_room.faces)).reshape(-1, 3))
    superpoints = compute_superpoints(soup).superpoints
    assert purity(superpoints, box_room.sides[box_room.faces].ravel()) >= 0.95
    assert superpoints.max() < 50


def test_faces_of_a_few_points_only_are_not_trusted(box_room) -> None:
    superpoints = compute_superpoints(PointCloud(xyz=box_room.xyz, faces=box_room.faces[:100])).superpoints
    assert superpoints.max() < len(box_room.xyz) / 20


def test_columns_that_are_there_are_kept(box_room) -> None:
    normals = np.tile(np.float32([0, 0, 1]), (len(box_room.xyz), 1))
    cloud = PointCloud(xyz=box_room.xyz, normals=normals, labels=box_room.sides)
    done = compute_superpoints(cloud)
    assert np.array_equal(done.normals, normals)
    assert np.array_equal(done.labels, cloud.labels)
    assert cloud.superpoints is None


@pytest.mark.parametrize(("call", "words"), [
    (lambda: segment_cloud(np.zeros((4, 2))), r"got shape \(4, 2\)"),
    (lambda: segment_cloud(np.full((4, 3), np.nan)), "segment_cloud:row 0: 4 points are not finite"),
    (lambda: segment_cloud(np.zeros((4, 3)), normals=np.zeros((3, 3))), r"got shape \(3, 3\)"),
    (lambda: segment_cloud(np.zeros((4, 3)), rgb=np.zeros((3, 3))), "colours do not fit"),
    (lambda: segment_mesh(np.zeros((3, 3)), [[0, 1, 3]]), "got 3"),
    (lambda: segment_cloud(np.zeros((4, 3)), k=0), "1 <= k <= 64"),
])
def test_bad_arrays_are_refused_with_the_reason(call, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()


def test_given_normals_are_kept_but_for_their_length_and_superpoints_but_for_gaps(box_room) -> None:
    """Mesh programs write normals weighted by area, which a network would take for something else."""
    normals, superpoints = mesh_normals(box_room.xyz, box_room.faces), np.arange(len(box_room.xyz)) // 50
    normals[3] = 0
    length = np.random.default_rng(0).uniform(1e-3, 100, (len(normals), 1)).astype(np.float32)
    whole = PointCloud(box_room.xyz, normals=normals, superpoints=superpoints)
    assert complete(whole) is whole
    other = complete(PointCloud(box_room.xyz, normals=normals * length, superpoints=superpoints * 7 + 3))
    np.testing.assert_allclose(other.normals, normals, atol=1e-6)
    assert np.array_equal(other.superpoints, superpoints)
    with pytest.raises(DataError, match="normals must be finite"):
        complete(whole.replace(normals=np.full((len(normals), 3), np.nan)))
