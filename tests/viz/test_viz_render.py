"""The software renderer shows what is in front, where it is, the right way round."""

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.structures import PointCloud
from pc3d.viz import best_view, draw_scan, room_view
from pc3d.viz.render import BACKGROUND, look

RED, BLUE, GREEN = (220, 30, 30), (30, 30, 220), (30, 200, 30)


def square(center, side, rgb, step=0.05):
    """Points on an upright square facing -y."""
    grid = np.arange(-side / 2, side / 2, step)
    x, z = np.meshgrid(grid, grid)
    xyz = np.column_stack([x.ravel(), np.zeros(x.size), z.ravel()]) + center
    return xyz.astype(np.float32), np.tile(np.array(rgb, dtype=np.uint8), (x.size, 1))


def as_mesh(xyz, rgb):
    """The same square as two triangles."""
    low, high = xyz.min(axis=0), xyz.max(axis=0)
    corners = np.array([low, [high[0], low[1], low[2]], high, [low[0], low[1], high[2]]])
    return corners.astype(np.float32), rgb[:4], np.array([[0, 1, 2], [0, 2, 3]])


def scene(*squares, mesh=False):
    if mesh:
        parts = [as_mesh(*one) for one in squares]
        faces = np.concatenate([part[2] + 4 * k for k, part in enumerate(parts)])
        return PointCloud(np.concatenate([p[0] for p in parts]), rgb=np.concatenate([p[1] for p in parts]), faces=faces)
    return PointCloud(np.concatenate([s[0] for s in squares]), rgb=np.concatenate([s[1] for s in squares]))


def looks(image, color):
    """Mask of the pixels whose strongest channel is that of ``color``."""
    channel = int(np.argmax(color))
    rest = np.delete(image.astype(int), channel, axis=-1).max(axis=-1)
    return image[..., channel].astype(int) > rest + 60


@pytest.mark.parametrize("mesh", [False, True])
@pytest.mark.parametrize("orthographic", [False, True])
def test_a_red_box_in_front_hides_a_blue_one_behind(mesh, orthographic):
    behind, front = square((0, 2, 0), 1.0, BLUE), square((0, 0, 0), 1.4, RED)
    for order in ((behind, front), (front, behind)):
        cloud = scene(*order, mesh=mesh)
        view = room_view(cloud.xyz, width=120, height=120, azimuth_deg=90, elevation_deg=0, orthographic=orthographic)
        image = draw_scan(cloud, view=view, cutaway=False)
        assert looks(image, RED).sum() > 2000
        assert looks(image, BLUE).sum() == 0
        other_side = room_view(cloud.xyz, width=120, height=120, azimuth_deg=-90, elevation_deg=0, orthographic=orthographic)
        assert looks(draw_scan(cloud, view=other_side, cutaway=False), BLUE).sum() > 500


@pytest.mark.parametrize("mesh", [False, True])
def test_left_stays_left_and_up_stays_up(mesh):
    left, right, top = square((-1, 0, 0), 0.8, RED), square((1, 0, 0), 0.8, BLUE), square((0, 0, 1.5), 0.8, GREEN)
    cloud = scene(left, right, top, mesh=mesh)
    view = room_view(cloud.xyz, width=150, azimuth_deg=90, elevation_deg=15)   # looks along +y: +x is to the right
    image = draw_scan(cloud, view=view, cutaway=False)
    column = {color: np.nonzero(looks(image, color))[1].mean() for color in (RED, BLUE, GREEN)}
    row = {color: np.nonzero(looks(image, color))[0].mean() for color in (RED, BLUE, GREEN)}
    assert column[RED] < column[GREEN] < column[BLUE]
    assert row[GREEN] < min(row[RED], row[BLUE])


def test_axes_of_a_view_are_right_handed():
    for azimuth in (0, 70, 200):
        right, up, forward = room_view(np.eye(3), azimuth_deg=azimuth).axes
        np.testing.assert_allclose(np.cross(right, up), -forward, atol=1e-12)
        assert up[2] > 0


@pytest.mark.parametrize("orthographic", [False, True])
def test_a_view_holds_the_whole_scan(orthographic):
    xyz = np.random.default_rng(0).uniform([0, 0, 0], [9, 2, 3], (500, 3)).astype(np.float32)
    for height in (None, 90, 400):
        view = room_view(xyz, width=200, height=height, orthographic=orthographic)
        column, row, depth = view.project(xyz).T
        assert depth.min() > 0
        assert 0 <= column.min() < column.max() <= view.width
        assert 0 <= row.min() < row.max() <= view.height
        assert np.ptp(column) > 0.85 * view.width or np.ptp(row) > 0.85 * view.height


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_empty_and_tiny_clouds_give_a_picture(count):
    cloud = PointCloud(np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32))
    image = draw_scan(cloud, width=64)
    assert image.shape[1:] == (64, 3)
    assert image.dtype == np.uint8
    assert (image != BACKGROUND).any() == (count > 0)


def test_rows_that_are_not_finite_are_left_out():
    xyz, rgb = square((0, 0, 0), 1.0, RED)
    xyz[::7] = np.nan
    assert looks(draw_scan(PointCloud(xyz, rgb=rgb), width=80), RED).any()


def test_a_mesh_has_no_cracks():
    grid = np.linspace(0, 1, 12)
    x, y = np.meshgrid(grid, grid)
    xyz = np.column_stack([x.ravel(), y.ravel(), 0.05 * np.sin(9 * x.ravel())]).astype(np.float32)
    corner = (np.arange(11)[:, None] * 12 + np.arange(11)).ravel()
    faces = np.concatenate([np.stack([corner, corner + 1, corner + 13], 1), np.stack([corner, corner + 13, corner + 12], 1)])
    view = room_view(xyz, width=200, height=200, azimuth_deg=90, elevation_deg=90, orthographic=True)
    surface, _ = look(PointCloud(xyz, faces=faces), view)
    column, row = surface.pixels % 200, surface.pixels // 200
    assert len(surface.pixels) == (np.ptp(column) + 1) * (np.ptp(row) + 1)
    np.testing.assert_allclose(surface.weights.sum(axis=1), 1.0, atol=1e-5)


def room(with_faces):
    """A box room with walls, floor and ceiling; normals of the mesh look inwards."""
    corners = np.array([[x, y, z] for z in (0, 2.5) for y in (0, 4) for x in (0, 5)], dtype=np.float32)
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    if with_faces:
        return PointCloud(corners, faces=np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))
    rng = np.random.default_rng(0)
    a, b, d = (corners[quads[:, k]] for k in (0, 1, 3))
    share = rng.random((6, 2500, 2, 1))
    return PointCloud((a[:, None] + share[:, :, 0] * (b - a)[:, None] + share[:, :, 1] * (d - a)[:, None]).reshape(-1, 3))


@pytest.mark.parametrize("with_faces", [False, True])
def test_one_looks_into_a_room_from_above(with_faces):
    cloud = room(with_faces)
    if with_faces:   # corner normals would mix three walls: give each face its own corners
        cloud = PointCloud(cloud.xyz[cloud.faces.ravel()], faces=np.arange(cloud.faces.size).reshape(-1, 3))
    view = room_view(cloud.xyz, width=200, azimuth_deg=60, elevation_deg=55)
    surface, _ = look(cloud, view)
    heights = surface.mix(cloud.xyz)[:, 2]
    assert (heights < 0.05).mean() > 0.35              # the floor is what one sees most
    closed, _ = look(cloud, view, cutaway=False)
    assert (closed.mix(cloud.xyz)[:, 2] > 2.45).mean() > 0.35


def test_objects_do_not_bleed_and_get_an_outline():
    left, right = square((-0.5, 0, 0), 1.0, RED), square((0.5, 0, 0), 1.0, RED)
    cloud = scene(left, right)
    groups = np.repeat([0, 1], [len(left[0]), len(right[0])])
    view = room_view(cloud.xyz, width=160, height=80, azimuth_deg=90, elevation_deg=0)
    plain, lined = (draw_scan(cloud, view=view, groups=ids, cutaway=False) for ids in (np.zeros_like(groups), groups))
    darker = (plain.astype(int).sum(axis=2) - lined.astype(int).sum(axis=2)) > 60
    assert set(np.unique(np.nonzero(darker)[1]) // 8) == {80 // 8} or abs(np.nonzero(darker)[1].mean() - 80) < 3


def test_the_best_view_is_stable_and_colours_are_checked():
    cloud = room(False)
    np.testing.assert_array_equal(best_view(cloud).axes, best_view(cloud).axes)
    with pytest.raises(DataError, match="colours do not fit"):
        draw_scan(cloud, np.zeros((3, 3), dtype=np.uint8))
