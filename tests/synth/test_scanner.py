"""The virtual scanner sees what a camera would, and labels it by the surface it lies on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pc3d.synth import Room, ScannerConfig, make_room, scan_room
from pc3d.synth.primitives import box, make_mesh, merge
from pc3d.synth.scanner import Caster, look, measure, renumber, trajectory
from pc3d.synth.shading import Shader, blurred

pytestmark = pytest.mark.usefixtures("open3d")

TINY = ScannerConfig(width=96, height=72, stations=3, views=8, voxel_size=0.06, min_instance_points=20, max_label_distance=0.08)
FLOOR = [(0, 0, 0), (4, 0, 0), (4, 4, 0), (0, 4, 0)]


@pytest.fixture(scope="module")
def scan():
    rng = np.random.default_rng(7)
    room = make_room(rng, kind="bedroom")
    return room, scan_room(room, rng, TINY)


def _crate_room() -> Room:
    """A floor and one labelled crate (class 17) of 1 m in the middle."""
    mesh = merge(make_mesh(FLOOR, [[0, 1, 2], [0, 2, 3]], (200, 200, 200)), box((1, 1, 1), (200, 30, 30), (2, 2, 0)))
    labels = np.array([-1, -1, *[17] * 12], np.int32)
    return Room(
        mesh,
        labels,
        np.where(labels < 0, -1, 0).astype(np.int32),
        np.array([4.0, 4.0, 2.5]),
        ((1.5, 1.5, 2.5, 2.5, 1.0),),
        np.eye(4),
        "test",
    )


def test_same_seed_gives_the_same_scan_bit_for_bit(scan):
    first = scan[1]
    rng = np.random.default_rng(7)
    second = scan_room(make_room(rng, kind="bedroom"), rng, TINY)
    for column in ("xyz", "rgb", "normals", "faces", "labels", "instances"):
        assert np.array_equal(getattr(first, column), getattr(second, column)), column


def test_instances_are_numbered_without_gaps_and_have_one_class(scan):
    cloud = scan[1]
    ids = np.unique(cloud.instances)
    assert ids.tolist() == list(range(-1, cloud.instances.max() + 1))
    assert cloud.instances.max() >= 2
    assert ((cloud.instances < 0) == (cloud.labels < 0)).all()
    for instance in ids[1:]:
        rows = cloud.instances == instance
        assert rows.sum() >= TINY.min_instance_points
        assert len(np.unique(cloud.labels[rows])) == 1


def test_labels_lie_on_the_right_surface_and_walls_have_none():
    cloud = scan_room(
        _crate_room(), np.random.default_rng(0), ScannerConfig(width=128, height=96, stations=6, views=8, noise=0, partial=0)
    )
    crate = cloud.labels == 17
    outside = np.maximum(np.abs(cloud.xyz - [2, 2, 0.5]) - 0.5, 0).max(axis=1)
    assert crate.sum() > 500
    assert outside[crate].max() < 0.05
    assert (cloud.labels[cloud.xyz[:, 2] < 0.02][outside[cloud.xyz[:, 2] < 0.02] > 0.06] == -1).all()
    assert crate[cloud.xyz[:, 2] > 0.1].mean() > 0.99  # faces reach past their edges by up to a voxel


def test_points_far_from_any_surface_have_no_label():
    points = np.array([[2.0, 2.0, 1.04], [2.0, 2.0, 1.06], [2.0, 1.48, 0.5], [0.5, 0.5, 0.0]], np.float32)
    labels, instances = Caster(_crate_room()).labels_at(points, 0.05)
    assert labels.tolist() == [17, -1, 17, -1]
    assert instances.tolist() == [0, -1, 0, -1]


def test_what_the_camera_cannot_see_is_missing():
    config = ScannerConfig(width=128, height=96, stations=1, views=12, noise=0, partial=0)
    cloud = scan_room(_crate_room(), np.random.default_rng(0), config)
    x, y, z = (cloud.xyz[cloud.labels == 17] - [2, 2, 0.5]).T
    middle = (np.abs(z) < 0.35) & (np.minimum(np.abs(x), np.abs(y)) < 0.4)
    seen = [int((middle & (np.abs(side) < 0.02)).sum()) for side in (x - 0.5, x + 0.5, y - 0.5, y + 0.5)]
    assert sum(count > 100 for count in seen) in (1, 2, 3)
    assert min(seen) == 0


def test_look_points_the_optical_axis_and_keeps_the_image_upright():
    pose = look(np.array([1.0, 2.0, 1.5]), yaw=np.pi / 2, pitch=-0.3)
    np.testing.assert_allclose(pose[:3, 2], [0, np.cos(0.3), -np.sin(0.3)], atol=1e-9)
    assert pose[2, 1] < -0.9  # image y points down
    np.testing.assert_allclose(np.cross(pose[:3, 0], pose[:3, 1]), pose[:3, 2], atol=1e-9)


def test_noise_grows_with_distance_and_range_is_limited():
    rng, config = np.random.default_rng(0), ScannerConfig()
    spread = []
    for z in (1.0, 4.0):
        depth = np.full((96, 96), z, np.float32)
        spread.append(np.std(measure(depth, np.ones_like(depth), np.zeros_like(depth), rng, config) - depth))
    assert spread[1] > 5 * spread[0]
    for z in (0.1, 6.0, np.inf):
        depth = np.full((8, 8), z, np.float32)
        assert not measure(depth, np.ones_like(depth), np.zeros_like(depth), rng, config).any()


def test_without_noise_depth_is_exact():
    depth = np.linspace(0.5, 4.5, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(
        measure(depth, np.ones_like(depth), np.zeros_like(depth), np.random.default_rng(0), ScannerConfig(noise=0)), depth
    )


def test_rarely_seen_instances_become_unlabelled():
    labels, instances = np.array([5, 5, 5, 7, -1, 3, 3]), np.array([4, 4, 4, 6, -1, 9, 9])
    new_labels, new_ids = renumber(labels, instances, 2)
    assert new_labels.tolist() == [5, 5, 5, -1, -1, 3, 3]
    assert new_ids.tolist() == [0, 0, 0, -1, -1, 1, 1]


def test_a_partial_scan_leaves_out_some_of_the_room():
    room = make_room(np.random.default_rng(5), kind="office")
    areas = []
    for partial in (0.0, 1.0):
        poses = trajectory(room, np.random.default_rng(1), ScannerConfig(partial=partial))
        places = np.array([pose[:2, 3] for pose in poses])
        areas.append((len(poses), np.ptp(places, axis=0).prod()))
    assert areas[1][0] < areas[0][0]
    assert areas[1][1] < areas[0][1]


def test_black_things_keep_their_holes_and_bright_things_have_none():
    mesh = merge(box((1, 1, 1), (10, 10, 10)), box((1, 1, 1), (200, 200, 200), (3, 0, 0)))
    none = np.full(len(mesh.faces), -1, np.int32)
    room = Room(mesh, none, none, np.array([4.0, 4.0, 2.5]), (), np.eye(4), "test")
    shader = replace(Shader.draw(room, np.random.default_rng(0)), dark_dropout=0.5)
    points = np.random.default_rng(1).uniform(0, 1, (2000, 3)).astype(np.float32)
    black = shader.dropout(points, np.zeros(2000, np.int64))
    assert 0.35 < (black > 0.9).mean() < 0.65
    assert np.array_equal(black, shader.dropout(points, np.zeros(2000, np.int64)))
    assert not shader.dropout(points, np.full(2000, 12)).any()
    assert (shader.dropout(points, np.full(2000, -1)) == 1).all()


def test_corners_are_darker_than_open_floor():
    caster, rng = Caster(_crate_room()), np.random.default_rng(0)
    points = np.zeros((64, 64, 3), np.float32)
    points[..., :2] = [0.5, 0.5]
    points[:, 32:, :2] = [1.48, 2.0]    # at the foot of the crate
    up, down = np.zeros_like(points) + [0, 0, 1], np.zeros_like(points) - [0, 0, 1]
    openness = caster.openness(points, up.astype(np.float32), down.astype(np.float32), rng)
    assert openness.shape == (64, 64)
    assert openness[:, :28].min() == 1
    assert openness[:, 36:].max() < 0.8
    assert openness[:, 36:].std() < 0.08     # neighbours share their rays: a shade, not specks


def test_motion_blur_smears_an_edge_and_keeps_brightness():
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:30, 10:30] = 200
    smeared = blurred(image, 6.0, np.random.default_rng(0))
    assert smeared.mean() == pytest.approx(image.mean(), rel=0.02)
    assert ((smeared > 0) & (smeared < 200)).any()
    assert blurred(image, 0.2, np.random.default_rng(0)) is image
