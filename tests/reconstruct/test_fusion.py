"""Fusion recovers known geometry, whatever order its hash tables have, and knows which way is up."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.reconstruct import align_up, fuse, reconstruct
from pc3d.reconstruct.mesh import canonical_order, drop_small_parts
from pc3d.structures import Camera, Frame, PointCloud
from pc3d.synth import Room, ScannerConfig, virtual_frames
from pc3d.synth.primitives import box, make_mesh, merge

pytestmark = pytest.mark.usefixtures("open3d")

CAMERA = Camera(120, 90, 100.0, 100.0, 59.5, 44.5)


def _wall_frame(name: str, shift: float, distance: float = 1.5) -> Frame:
    """A camera that looks along +z at the plane z = distance, moved sideways."""
    pose = np.eye(4)
    pose[0, 3] = shift
    depth, rgb = np.full((90, 120), distance, np.float32), np.full((90, 120, 3), (200, 100, 50), np.uint8)
    return Frame(name, CAMERA, CAMERA, pose, lambda: rgb, lambda: depth)


def test_fusion_recovers_a_plane_within_a_centimetre():
    mesh = fuse([_wall_frame(str(i), 0.05 * i) for i in range(4)], 0.02)
    assert np.abs(mesh.xyz[:, 2] - 1.5).max() < 0.01
    assert np.ptp(mesh.xyz[:, 0]) > 1.5
    assert (mesh.normals[:, 2] < -0.99).all()
    assert np.abs(mesh.rgb.astype(int) - (200, 100, 50)).max() <= 1
    assert mesh.faces.max() < len(mesh)


def test_fusion_recovers_a_box_within_a_centimetre():
    floor = make_mesh([(0, 0, 0), (4, 0, 0), (4, 4, 0), (0, 4, 0)], [[0, 1, 2], [0, 2, 3]], (200, 200, 200))
    mesh = merge(floor, box((1, 1, 1), (90, 90, 90), (2, 2, 0)))
    nothing = np.full(len(mesh.faces), -1, np.int32)
    room = Room(mesh, nothing, nothing, np.array([4.0, 4.0, 2.5]), ((1.5, 1.5, 2.5, 2.5, 1.0),), np.eye(4), "test")
    frames = virtual_frames(room, np.random.default_rng(0), ScannerConfig(width=160, height=120, stations=5, views=8, noise=0))
    xyz = fuse(frames, 0.03).xyz
    beyond = np.abs(xyz - [2, 2, 0.5]) - 0.5
    to_box = np.where((beyond < 0).all(axis=1), -beyond.max(axis=1), np.linalg.norm(np.maximum(beyond, 0), axis=1))
    error = np.minimum(np.abs(xyz[:, 2]), to_box)
    # faces of a box reach up to a voxel past its edges in any signed distance volume
    assert np.quantile(error, 0.95) < 0.01
    assert np.quantile(error[xyz[:, 2] < 0.02], 0.99) < 0.01
    assert (np.abs(xyz[:, 2] - 1.0) < 0.01).sum() > 200


def test_fusion_of_an_inclined_plane_has_no_half_pixel_bias():
    v, u = np.mgrid[0:90, 0:120]
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.shape)], axis=-1)
    normal = np.array([0.0, np.sin(1.0), np.cos(1.0)])
    distance = 1.5 * normal[2] / (rays @ normal)
    depth = np.where((distance > 0) & (distance < 3), distance, 0).astype(np.float32)
    frame = Frame("a", CAMERA, CAMERA, np.eye(4), lambda: np.zeros((90, 120, 3), np.uint8), lambda: depth)
    mesh = fuse([frame, frame], 0.02)
    assert abs((mesh.xyz @ normal - 1.5 * normal[2]).mean()) < 0.003


def test_a_surface_seen_too_seldom_is_left_out():
    assert len(fuse([_wall_frame("a", 0.0), _wall_frame("b", 0.0)], 0.04, min_views=2)) > 0
    with pytest.raises(DataError, match="no surface"):
        fuse([_wall_frame("a", 0.0)], 0.04, min_views=2)


def test_frames_without_depth_are_passed_over_and_none_at_all_is_an_error():
    empty = Frame(
        "empty", CAMERA, CAMERA, np.eye(4), lambda: np.zeros((90, 120, 3), np.uint8), lambda: np.zeros((90, 120), np.float32)
    )
    frames = [_wall_frame("a", 0.0), empty, _wall_frame("b", 0.0)]
    assert np.array_equal(fuse(frames, 0.04).xyz, fuse([frames[0], frames[2]], 0.04).xyz)
    for nothing in ([], [empty]):
        with pytest.raises(DataError, match="no surface"):
            fuse(nothing, 0.04)


@pytest.mark.parametrize("up", [(0, 0, 1), (0, -1, 0), (0, 1, 0), (1, 0, 0), (0.1, -0.98, 0.17)])
def test_align_up_finds_the_floor_of_a_room(up):
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform(0, 4, (4000, 2)), rng.normal(0, 0.003, 4000)]
    table = np.c_[rng.uniform(1, 2, (800, 2)), np.full(800, 0.75)]
    ceiling = np.c_[rng.uniform(0, 4, (4000, 2)), np.full(4000, 2.5)]
    wall = np.c_[np.zeros(3000), rng.uniform(0, 4, 3000), rng.uniform(0, 2.5, 3000)]
    xyz = np.concatenate([floor, table, ceiling, wall])
    normals = np.repeat([[0, 0, 1], [0, 0, 1], [0, 0, -1], [1, 0, 0]], [4000, 800, 4000, 3000], axis=0).astype(float)
    target = np.array(up, float) / np.linalg.norm(up)
    side = np.cross([0.3, 0.5, 0.7], target)
    side /= np.linalg.norm(side)
    turn = np.stack([side, np.cross(target, side), target], axis=1)
    cloud = PointCloud((xyz @ turn.T + [3, 1, 2]).astype(np.float32), normals=(normals @ turn.T).astype(np.float32))
    aligned = align_up(cloud)
    np.testing.assert_allclose(aligned.world_xyz[:, 2], xyz[:, 2], atol=0.02)
    transform = np.array(aligned.metadata["T_aligned_world"])
    np.testing.assert_allclose(cloud.world_xyz @ transform[:3, :3].T + transform[:3, 3], aligned.world_xyz, atol=1e-4)
    np.testing.assert_allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-9)


def test_align_up_without_normals_says_what_is_missing():
    with pytest.raises(DataError, match="normals"):
        align_up(PointCloud(np.zeros((3, 3), np.float32)))


def test_small_parts_and_lonely_vertices_are_dropped():
    xyz = np.arange(24, dtype=np.float32).reshape(8, 3)
    rgb, faces = np.zeros((8, 3), np.uint8), np.array([[0, 1, 2], [1, 2, 3], [4, 5, 6]])
    kept, _, kept_faces = drop_small_parts(xyz, rgb, faces, 4)
    assert np.array_equal(kept, xyz[:4])
    assert kept_faces.tolist() == [[0, 1, 2], [1, 2, 3]]


def test_order_of_vertices_depends_on_the_surface_alone():
    rng = np.random.default_rng(0)
    xyz, rgb = rng.random((20, 3)).astype(np.float32), rng.integers(0, 255, (20, 3)).astype(np.uint8)
    faces = rng.permuted(np.tile(np.arange(20), (15, 1)), axis=1)[:, :3]
    order = rng.permutation(20)
    row = np.argsort(order)
    shuffled = canonical_order(xyz[order], rgb[order], np.roll(row[faces], 1, axis=1)[::-1])
    for first, second in zip(canonical_order(xyz, rgb, faces), shuffled):
        assert np.array_equal(first, second)


@pytest.mark.parametrize("align", [True, False])
def test_reconstruct_reads_a_folder_and_turns_its_floor_down(tmp_path, align):
    image = pytest.importorskip("PIL.Image")
    for name in ("color", "depth"):
        (tmp_path / name).mkdir()
    np.savetxt(tmp_path / "K.txt", CAMERA.matrix)
    looking_down = np.diag([1.0, -1.0, -1.0, 1.0]) @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -1.5], [0, 0, 0, 1.0]])
    turn = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # the tracker's y points down
    np.savetxt(tmp_path / "poses.txt", np.stack([(turn @ looking_down).reshape(-1)] * 2))
    for index in range(2):
        image.fromarray(np.full((90, 120, 3), 77, np.uint8)).save(tmp_path / f"color/{index:04d}.png")
        image.fromarray(np.full((90, 120), 1500, np.uint16)).save(tmp_path / f"depth/{index:04d}.png")
    mesh = reconstruct(tmp_path, 0.04, align=align)
    flat = 2 if align else 1
    assert np.ptp(mesh.xyz[:, flat]) < 0.02
    assert ("T_aligned_world" in mesh.metadata) == align
    if align:
        assert abs(np.median(mesh.xyz[:, 2])) < 0.01
        assert (mesh.normals[:, 2] > 0.99).all()
