"""Which points of a scan cameras see, and which masks they fall into, counted by superpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_rows
from pc3d.ops._library import define, on_cpu

CAMERA_VALUES = 13   # fx fy cx+.5 cy+.5 width height x0 x1 y0 y1 r2_max p1 p2, as csrc/lift_vote.h has them
MAX_MASKS = 65535    # of one frame: ids are 16 bits


class FrameView(NamedTuple):
    """One frame as the op takes it; cameras as ``pc3d.lift.view`` packs them."""

    pose: Tensor            # (3, 4) float32, world to camera
    depth: Tensor           # (H, W) float32, metres, 0 for none
    depth_camera: Tensor    # (13 + T,) float32
    masks: Tensor           # (L, h, w) int16, ids as unsigned numbers, 0 for none; each layer is a partition of the image
    mask_camera: Tensor     # (13 + T,) float32
    num_masks: int
    tolerance: float        # metres that a point may be from its depth


class Counted(NamedTuple):
    """What frames see of the runs of blocks: rows frame after frame, in the order of the runs, ids ascending."""

    seen: Tensor            # (A, 2) int32: owner, visible points
    votes: Tensor           # (B, 3) int32: owner, id of a mask of the frame, visible points in it
    piece_seen: Tensor      # (C, 2) int32: the same of the pieces of runs that are cut
    piece_votes: Tensor     # (D, 3) int32
    rows: Tensor            # (F, 4) int64: how many rows of the four each frame has


def lift_vote(
    xyz: Tensor,        # (3, N) float32
    starts: Tensor,     # (B + 1,) int64
    owners: Tensor,     # (B,) int32
    boxes: Tensor,      # (6, B) float32
    pieces: Tensor,     # (N,) int32
    frames: Sequence[FrameView],
    *,
    near: float = 0.05,
    relative: float = 0.02,
    cut_share: float = 0.1,
    cut_points: int = 16,
) -> Counted:
    """Count the visible points of each run of blocks, and those of them in each mask, frame by frame.

    Points lie in blocks, rows ``starts[b]`` to ``starts[b + 1]``, inside ``boxes`` (centre, half of each side); neighbouring
    blocks of the same owner make a run. A point is visible where the depth d > 0 of its pixel agrees with its z > near:
    ``|z - d| <= max(tolerance, relative z)``, metres.

    A run is cut where a mask holds more than ``cut_share``, and less than 1 - ``cut_share``, of its visible points, if they are
    ``cut_points`` or more. Its points are then counted by piece too, of which ``pieces`` has the number, ascending.

    Frames given together are counted at once, one in each thread; the counts are those of one after another.
    Raises DataError; a mask id above ``num_masks`` raises ValueError.
    """
    check_rows("lift_vote", "boxes", boxes, len(owners), torch.float32, 6)
    for name, camera, size in {("depth", frame.depth_camera, frame.depth.shape) for frame in frames} | {
            ("masks", frame.mask_camera, frame.masks.shape[1:]) for frame in frames}:
        if len(camera) < CAMERA_VALUES or camera[4:6].tolist() != [float(size[1]), float(size[0])]:
            raise DataError(explain(f"the camera does not fit {name}", where="lift_vote", got=camera.tolist(),
                                    expected=f"{CAMERA_VALUES} values and those of a lens, of an image of {tuple(size)}"))
    for frame in frames:
        if not 0 <= frame.num_masks <= MAX_MASKS:
            raise DataError(explain("too many masks in one frame", where="lift_vote", got=frame.num_masks,
                                    expected=f"up to {MAX_MASKS}"))
    columns = map(list, zip(*frames)) if frames else ([] for _ in FrameView._fields)
    return Counted(*_op(xyz, starts, owners, boxes, pieces, *columns, near, relative, cut_share, cut_points))


def _reference(xyz: Tensor, starts: Tensor, owners: Tensor, boxes: Tensor, pieces: Tensor, poses: list[Tensor],
               depths: list[Tensor], depth_cameras: list[Tensor], masks: list[Tensor], mask_cameras: list[Tensor],
               num_masks: list[int], tolerances: list[float], near: float, relative: float, cut_share: float,
               cut_points: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    frames = zip(poses, depths, depth_cameras, masks, mask_cameras, num_masks, tolerances)
    counted = [_count(xyz, starts, owners, pieces, FrameView(*frame), near, relative, cut_share, cut_points)
               for frame in frames]
    rows = torch.tensor([[len(table) for table in tables] for tables in counted], dtype=torch.int64).reshape(-1, 4)
    none = [torch.zeros(0, width, dtype=torch.int32) for width in (2, 3, 2, 3)]
    seen, votes, piece_seen, piece_votes = (torch.cat(tables) for tables in zip(none, *counted))
    return seen, votes, piece_seen, piece_votes, rows


def _count(xyz: Tensor, starts: Tensor, owners: Tensor, pieces: Tensor, frame: FrameView, near: float, relative: float,
           cut_share: float, cut_points: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    pose, depth, depth_camera, masks, mask_camera, num_masks, tolerance = frame
    cam = ((pose[:, 0:1] * xyz[0] + pose[:, 1:2] * xyz[1]) + pose[:, 2:3] * xyz[2]) + pose[:, 3:4]
    ahead = cam[2] > _single(near, xyz)
    inverse = 1 / torch.where(ahead, cam[2], 1)
    x, y, z = cam[0] * inverse, cam[1] * inverse, cam[2]
    pixel, inside = _pixels(x, y, ahead, depth_camera)
    d = depth.reshape(-1)[pixel]
    limit = torch.maximum(_single(relative, xyz) * z, _single(tolerance, xyz))
    visible = inside & (d > 0) & ((z - d).abs() <= limit)

    run = torch.zeros(len(owners), dtype=torch.int64, device=xyz.device)
    run[1:] = (owners[1:] != owners[:-1]).cumsum(0)
    first = torch.nonzero(torch.diff(run, prepend=run.new_full((1,), -1))).flatten()
    run_of_point = run.repeat_interleave(starts.diff())
    seen, seen_counts = run_of_point[visible].unique(return_counts=True)

    pixel, inside = _pixels(x, y, visible, mask_camera)
    ids = torch.where(inside, masks.reshape(len(masks), masks.shape[1] * masks.shape[2]).int()[:, pixel] & 0xFFFF, 0)
    if int(ids.amax() if ids.numel() else 0) > num_masks:
        raise ValueError("lift_vote: a mask id is out of range")
    votes = _tally(run_of_point, ids)
    row = torch.searchsorted(seen, votes[:, 0].contiguous())
    low = _single(cut_share, xyz) * seen_counts[row].float()
    part = (votes[:, 2] > low) & (votes[:, 2] < seen_counts[row] - low) & (seen_counts[row] >= cut_points)
    cut = torch.isin(run_of_point, votes[part, 0])
    piece, piece_counts = pieces[visible & cut].unique(return_counts=True)
    votes[:, 0] = owners[first[votes[:, 0]]]
    return (torch.stack([owners[first[seen]], seen_counts], 1).int(), votes.int(), torch.stack([piece, piece_counts], 1).int(),
            _tally(pieces, torch.where(cut, ids, 0)).int())


def _tally(group: Tensor, ids: Tensor) -> Tensor:
    """Rows (B, 3) int64 of group (N,), id and how many points, of ids (L, N) but 0."""
    pairs, counts = (group * (MAX_MASKS + 1) + ids)[ids > 0].unique(return_counts=True)
    return torch.stack([pairs // (MAX_MASKS + 1), pairs % (MAX_MASKS + 1), counts], 1)


def _single(value: float, like: Tensor) -> Tensor:
    """A number in the float32 of the kernel: products with a Python float would be rounded from double."""
    return torch.tensor(value, dtype=torch.float32, device=like.device)


def _pixels(x: Tensor, y: Tensor, ok: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel (N,) of ideal points, 0 where they are not in the image, and whether they are."""
    (fx, fy, cx, cy, width, height, *_, largest, p1, p2), lens = camera[:CAMERA_VALUES], camera[CAMERA_VALUES:]
    if len(lens):
        r2 = x * x + y * y
        ok = ok & (r2 < largest)
        at = torch.where(ok, r2 * ((len(lens) - 1) / largest), 0)
        step = at.int().clamp(max=len(lens) - 2).long()
        scale = lens[step] + (at - step) * (lens[step + 1] - lens[step])
        xy = 2 * x * y
        x, y = (scale * x + (p1 * xy + p2 * (r2 + 2 * x * x)), scale * y + (p1 * (r2 + 2 * y * y) + p2 * xy))
    u, v = fx * x + cx, fy * y + cy
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height) & ok
    column, row = (torch.where(inside, value, 0).long() for value in (u, v))
    return row * int(width) + column, inside


def _fake(xyz: Tensor, starts: Tensor, owners: Tensor, boxes: Tensor, pieces: Tensor, poses: list[Tensor],
          depths: list[Tensor], depth_cameras: list[Tensor], masks: list[Tensor], mask_cameras: list[Tensor],
          num_masks: list[int], tolerances: list[float], near: float, relative: float, cut_share: float,
          cut_points: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    seen, votes, piece_seen, piece_votes = (
        xyz.new_empty(torch.library.get_ctx().new_dynamic_size(), width, dtype=torch.int32) for width in (2, 3, 2, 3))
    return seen, votes, piece_seen, piece_votes, xyz.new_empty(len(poses), 4, dtype=torch.int64)


_op = define(
    "lift_vote(Tensor xyz, Tensor starts, Tensor owners, Tensor boxes, Tensor pieces, Tensor[] poses, Tensor[] depths, "
    "Tensor[] depth_cameras, Tensor[] masks, Tensor[] mask_cameras, int[] num_masks, float[] tolerances, float near, "
    "float relative, float cut_share, int cut_points) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    reference=on_cpu(_reference), fake=_fake)
