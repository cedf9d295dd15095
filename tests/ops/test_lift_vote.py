"""lift_vote counts what its torch reference counts, with every instruction set, number of threads, lens and size."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from pc3d.errors import DataError
from pc3d.lift.scan import LiftScan
from pc3d.lift.view import pack_camera, pack_pose
from pc3d.ops import FrameView, lift_vote
from pc3d.ops._library import has_kernel
from pc3d.ops.lift_vote import _reference
from pc3d.structures import Camera, Lens, PointCloud

PLAIN = Camera(64, 48, 50.0, 52.0, 31.0, 22.5)
ODD = Camera(61, 45, 50.0, 52.0, 31.0, 22.5)
CAMERAS = {"one camera": (PLAIN, PLAIN), "an odd size": (ODD, ODD), "masks of another size": (PLAIN, PLAIN.resized(40, 30)),
           "a bent lens": (Camera(64, 48, 50.0, 52.0, 31.0, 22.5, Lens((-0.25, 0.05), (0.01, -0.02))), PLAIN),
           "two fisheyes": (Camera(64, 48, 30.0, 30.0, 31.0, 22.5, Lens((0.02, -0.01), fisheye=True)),
                            Camera(90, 90, 40.0, 40.0, 44.0, 45.0, Lens((0.1,), fisheye=True)))}


def arguments(cameras, seed=0, count=9000, layers=2):
    """Points on a wavy sheet in superpoints of very different sizes, seen at an angle, with holes in the depth."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(-2, 2, (count, 2))
    xyz = np.column_stack([xy, 2 + 0.3 * np.sin(3 * xy[:, 0])]).astype(np.float32)
    ids = np.unique(np.minimum(rng.geometric(0.02, count), 60), return_inverse=True)[1]
    scan = LiftScan.from_cloud(PointCloud(xyz=xyz, superpoints=ids))
    pose = np.eye(4)
    pose[:3, :3] = [[np.cos(0.2), 0, np.sin(0.2)], [0, 1, 0], [-np.sin(0.2), 0, np.cos(0.2)]]
    depth_camera, mask_camera = cameras
    v, u = np.mgrid[:depth_camera.height, :depth_camera.width]
    depth = (2.2 + 0.01 * u + 0.1 * np.sin(v / 5)).astype(np.float32) * (rng.random(u.shape) > 0.1)
    masks = rng.integers(0, 8, (layers, mask_camera.height, mask_camera.width)).astype(np.int16)
    view = FrameView(pack_pose(pose, scan.origin), torch.from_numpy(depth.astype(np.float32)), pack_camera(depth_camera),
                     torch.from_numpy(masks), pack_camera(mask_camera), 7, 0.25)
    return laid_out(scan), view


def laid_out(scan):
    return scan.xyz, scan.starts, scan.owners, scan.boxes, scan.piece_of_point


def in_boxes(points, boxes):
    return *points[:3], boxes, points[4]


TEST = {"near": 0.05, "relative": 0.05}
CUT = {"cut_share": 0.2, "cut_points": 5}


def reference(points, views, near=0.05, relative=0.05, cut_share=0.2, cut_points=5):
    return _reference(*points, *map(list, zip(*views)), near, relative, cut_share, cut_points)


def equal(first, second):
    return all(map(torch.equal, first, second))


@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize("name", CAMERAS)
def test_every_kernel_counts_as_the_reference(name, isa, monkeypatch):
    assert has_kernel("lift_vote")
    points, view = arguments(CAMERAS[name])
    expected = reference(points, [view])
    assert expected[0][:, 1].sum() > 300
    assert expected[1][:, 2].sum() > 300
    assert 0 < expected[2][:, 1].sum() < expected[0][:, 1].sum()
    assert 0 < expected[3][:, 2].sum() < expected[1][:, 2].sum()
    monkeypatch.setenv("PC3D_ISA", isa)
    threads = torch.get_num_threads()
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        assert equal(lift_vote(*points, [view], **TEST, **CUT), expected)
    torch.set_num_threads(threads)


def test_frames_together_count_what_they_count_alone():
    """Of other cameras, other sizes, and with nothing in view."""
    views = [arguments(cameras, seed)[1] for seed, cameras in enumerate(CAMERAS.values())]
    points = arguments((PLAIN, PLAIN))[0]
    turned = views[0]._replace(pose=pack_pose(np.diag([1.0, -1, -1, 1]), np.zeros(3)))
    views = [turned, *views, turned, views[0]._replace(num_masks=9, tolerance=0.1)]
    together = lift_vote(*points, views, **TEST, **CUT)
    alone = [lift_vote(*points, [view], **TEST, **CUT) for view in views]
    assert torch.equal(together.rows, torch.tensor([[len(table) for table in one[:4]] for one in alone]))
    assert together.rows[[0, -2]].sum() == 0
    assert together.rows[[1, 2, 3, 4, 5, -1]].min() > 0
    assert equal(together[:4], map(torch.cat, zip(*(one[:4] for one in alone))))
    assert equal(together, reference(points, views))
    none = lift_vote(*points, [])
    assert [tuple(one.shape) for one in none] == [(0, 2), (0, 3), (0, 2), (0, 3), (0, 4)]
    assert all(one.dtype == other.dtype and torch.equal(one, other)
               for one, other in zip(none, _reference(*points, *[[]] * 7, 0.05, 0.05, 0.2, 5), strict=True))


def test_counts_are_those_of_plain_arithmetic():
    """Every point again in float64: projected, tested and looked up one by one."""
    points, view = arguments((PLAIN, PLAIN), layers=1)
    (xyz, starts, owners, _, pieces), (pose, depth, _, masks, *_) = points, view
    owner = np.repeat(owners.numpy(), np.diff(starts.numpy()))
    x, y, z = pose[:, :3].double().numpy() @ xyz.double().numpy() + pose[:, 3:].double().numpy()
    u, v = np.rint(50 * x / z + 31).astype(int), np.rint(52 * y / z + 22.5).astype(int)
    found = []
    for i in np.flatnonzero((u >= 0) & (u < 64) & (v >= 0) & (v < 48)):
        d = float(depth[v[i], u[i]])
        if d > 0 and abs(z[i] - d) <= max(0.25, 0.05 * z[i]):
            found.append((int(owner[i]), int(pieces[i]), int(masks[0, v[i], u[i]])))
    seen, votes = Counter(o for o, _, _ in found), Counter((o, m) for o, _, m in found if m)
    cut = {o for (o, _), n in votes.items() if seen[o] >= 5 and 0.2 * seen[o] < n < 0.8 * seen[o]}
    assert 0 < len(cut) < len(seen)
    got = [{tuple(row[:-1]): row[-1] for row in rows.tolist()} for rows in lift_vote(*points, [view], **TEST, **CUT)[:4]]
    assert got[0] == {(o,): n for o, n in seen.items()}
    assert got[1] == votes
    assert got[2] == Counter((p,) for o, p, _ in found if o in cut)
    assert got[3] == Counter((p, m) for o, p, m in found if m and o in cut)


def test_depth_that_is_no_number_hides_its_own_pixel_only():
    points, view = arguments((ODD, ODD))
    depth = view.depth.clone()
    depth[::3, ::2], depth[1::3, ::5] = torch.nan, torch.inf
    expected = reference(points, [view._replace(depth=depth)])
    assert expected[0][:, 1].sum() > 100
    assert equal(lift_vote(*points, [view._replace(depth=depth)], **TEST, **CUT), expected)


def test_culling_loses_no_point():
    points, view = arguments((PLAIN, PLAIN))
    everywhere = points[3].clone()
    everywhere[3:] = 1e3
    assert equal(lift_vote(*points, [view], **TEST), lift_vote(*in_boxes(points, everywhere), [view], **TEST))


@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512"])
def test_what_stands_behind_a_wall_is_seen_through_a_hole_of_one_pixel(isa, monkeypatch):
    """Blocks that lie behind all depth they may meet are passed over, and no others."""
    monkeypatch.setenv("PC3D_ISA", isa)
    rng = np.random.default_rng(0)
    camera = Camera(403, 299, 300.0, 310.0, 207.0, 140.0)
    xyz = rng.uniform([-3, -2, 1.8], [3, 2, 4], (20_000, 3)).astype(np.float32)
    cells = np.unique(np.floor(xyz / 0.7), axis=0, return_inverse=True)[1].reshape(-1)
    scan = LiftScan.from_cloud(PointCloud(xyz=xyz, superpoints=cells))
    x, y, z = scan.xyz.numpy() + scan.origin[:, None]
    column, row = (300 * x / z + 207.5).astype(int), (310 * y / z + 140.5).astype(int)
    seen = np.flatnonzero((column >= 0) & (column < 403) & (row >= 0) & (row < 299))
    points, shown = laid_out(scan), 0
    everywhere = in_boxes(points, scan.boxes * torch.tensor([[1.0]] * 3 + [[1e4]] * 3))
    for holes in rng.permutation(seen)[:6000].reshape(300, 20):
        depth = torch.full((camera.height, camera.width), 1.5)
        depth[row[holes], column[holes]] = torch.from_numpy(z[holes].astype(np.float32))
        masks = torch.ones((1, *depth.shape), dtype=torch.int16)
        view = FrameView(pack_pose(np.eye(4), scan.origin), depth, pack_camera(camera), masks, pack_camera(camera), 1, 1e-3)
        counted = lift_vote(*points, [view], near=0.1, relative=0.0)
        shown += int(counted.seen[:, 1].sum())
        assert equal(counted, lift_vote(*everywhere, [view], near=0.1, relative=0.0))
    assert shown > 5900


@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512"])
def test_blocks_around_the_camera_are_never_hidden(isa, monkeypatch):
    """With ``near`` below 0 what they cover has no first tile before the last; in a large image, whose tiles lie apart."""
    monkeypatch.setenv("PC3D_ISA", isa)
    camera = Camera(4000, 3000, 300.0, 310.0, 2000.0, 1500.0)
    xyz = np.random.default_rng(0).uniform(-3, 3, (2000, 3)).astype(np.float32)
    scan = LiftScan.from_cloud(PointCloud(xyz=xyz, superpoints=np.arange(2000) // 20))
    view = FrameView(pack_pose(np.eye(4), scan.origin), torch.full((camera.height, camera.width), 0.5), pack_camera(camera),
                     torch.ones((1, camera.height, camera.width), dtype=torch.int16), pack_camera(camera), 1, 2.0)
    assert equal(lift_vote(*laid_out(scan), [view], near=-5.0, relative=0.0),
                 reference(laid_out(scan), [view], -5.0, 0.0, 0.1, 16))


def test_ids_use_all_16_bits_and_no_more():
    points, view = arguments((PLAIN, PLAIN), layers=1)
    view = view._replace(masks=torch.full_like(view.masks, -1), num_masks=65535)
    assert lift_vote(*points, [view], **TEST).votes[:, 1].unique().tolist() == [65535]
    with pytest.raises(ValueError, match="a mask id is out of range"):
        lift_vote(*points, [view._replace(num_masks=65534)], **TEST)
    with pytest.raises(DataError, match="too many masks in one frame; got 65536"):
        lift_vote(*points, [view._replace(num_masks=65536)], **TEST)


def test_nothing_in_view_and_no_masks_give_empty_counts():
    points, view = arguments((PLAIN, PLAIN), layers=0)
    assert [tuple(one.shape) for one in lift_vote(*points, [view], **TEST)[1:4]] == [(0, 3), (0, 2), (0, 3)]
    turned = view._replace(pose=pack_pose(np.diag([1.0, -1, -1, 1]), np.zeros(3)))
    assert lift_vote(*points, [turned], **TEST).seen.shape == (0, 2)


def test_a_camera_of_another_size_is_refused():
    points, view = arguments((PLAIN, PLAIN))
    for name, wrong in (("depth", {"depth": view.depth[:-1]}), ("masks", {"masks": view.masks[:, :, 1:]}),
                        ("masks", {"mask_camera": view.mask_camera[:12]})):
        with pytest.raises(DataError, match=f"the camera does not fit {name}"):
            lift_vote(*points, [view, view._replace(**wrong)], **TEST)


def test_pieces_that_do_not_fit_the_points_are_refused():
    (*points, pieces), view = arguments((PLAIN, PLAIN))
    for wrong in (pieces[:-1], pieces.long(), pieces.flip(0), pieces[:0]):
        with pytest.raises(ValueError, match="pieces must"):
            lift_vote(*points, wrong, [view], **TEST, **CUT)
