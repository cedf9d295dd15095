"""Which points of a scan a camera sees, and which masks they fall into, counted by superpoint."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_rows
from pc3d.ops._library import define, on_cpu

CAMERA_VALUES = 13   # fx fy cx+.5 cy+.5 width height x0 x1 y0 y1 r2_max p1 p2, as csrc/lift_vote.h has them
MAX_MASKS = 65535    # of one frame: ids are 16 bits


def lift_vote(
    xyz: Tensor,            # (3, N) float32
    starts: Tensor,         # (B + 1,) int64
    owners: Tensor,         # (B,) int32
    spheres: Tensor,        # (4, B) float32
    pose: Tensor,           # (3, 4) float32
    depth: Tensor,          # (H, W) float32
    depth_camera: Tensor,   # (13,) float32
    depth_lens: Tensor,     # (T,) float32
    masks: Tensor,          # (L, h, w) int16
    mask_camera: Tensor,    # (13,) float32
    mask_lens: Tensor,      # (T,) float32
    num_masks: int,
    pieces: Tensor,         # (N,) int32
    *,
    near: float = 0.05,
    absolute: float = 0.03,
    relative: float = 0.02,
    cut_share: float = 0.1,
    cut_points: int = 16,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Count the visible points of each run of blocks, and those of them in each mask of one frame.

    Points lie in blocks, rows ``starts[b]`` to ``starts[b + 1]``, inside ``spheres`` (x, y, z, radius);
    neighbouring blocks of the same owner make a run. ``pose`` maps world to camera. A point is visible where the depth d > 0
    of its pixel agrees with its z > near: ``|z - d| <= max(absolute, relative z)``, metres. Ids in ``masks`` are unsigned,
    0 for none; each layer is a partition of the image. Cameras as ``pc3d.lift.view`` packs them.

    A run is cut where a mask holds more than ``cut_share``, and less than 1 - ``cut_share``, of its visible points, if they are
    ``cut_points`` or more. Its points are then counted by piece too, of which ``pieces`` has the number, ascending.

    Returns seen (A, 2) int32 (owner, visible points) and votes (B, 3) int32 (owner, id, points in the mask), in the order
    of the runs, ids ascending; and of the runs that are cut the same of each piece, (C, 2) and (D, 3).
    Raises DataError; a mask id above ``num_masks`` raises ValueError.
    """
    check_rows("lift_vote", "spheres", spheres, len(owners), torch.float32, 4)
    for name, camera, size in (("depth", depth_camera, depth.shape), ("masks", mask_camera, masks.shape[1:])):
        if camera.shape != (CAMERA_VALUES,) or camera.tolist()[4:6] != [float(size[1]), float(size[0])]:
            raise DataError(explain(f"the camera does not fit {name}", where="lift_vote", got=camera.tolist(),
                                    expected=f"{CAMERA_VALUES} values, of an image of {tuple(size)}"))
    if not 0 <= num_masks <= MAX_MASKS:
        raise DataError(explain("too many masks in one frame", where="lift_vote", got=num_masks, expected=f"up to {MAX_MASKS}"))
    return _op(xyz, starts, owners, spheres, pose, depth, depth_camera, depth_lens, masks, mask_camera, mask_lens, num_masks,
               near, absolute, relative, pieces, cut_share, cut_points)


def _reference(xyz: Tensor, starts: Tensor, owners: Tensor, spheres: Tensor, pose: Tensor, depth: Tensor, depth_camera: Tensor,
               depth_lens: Tensor, masks: Tensor, mask_camera: Tensor, mask_lens: Tensor, num_masks: int, near: float,
               absolute: float, relative: float, pieces: Tensor, cut_share: float,
               cut_points: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    cam = ((pose[:, 0:1] * xyz[0] + pose[:, 1:2] * xyz[1]) + pose[:, 2:3] * xyz[2]) + pose[:, 3:4]
    ahead = cam[2] > _single(near, xyz)
    inverse = 1 / torch.where(ahead, cam[2], 1)
    x, y, z = cam[0] * inverse, cam[1] * inverse, cam[2]
    pixel, inside = _pixels(x, y, ahead, depth_camera, depth_lens)
    d = depth.reshape(-1)[pixel]
    limit = torch.maximum(_single(relative, xyz) * z, _single(absolute, xyz))
    visible = inside & (d > 0) & ((z - d).abs() <= limit)

    run = torch.zeros(len(owners), dtype=torch.int64, device=xyz.device)
    run[1:] = (owners[1:] != owners[:-1]).cumsum(0)
    first = torch.nonzero(torch.diff(run, prepend=run.new_full((1,), -1))).flatten()
    run_of_point = run.repeat_interleave(starts.diff())
    seen, seen_counts = run_of_point[visible].unique(return_counts=True)

    pixel, inside = _pixels(x, y, visible, mask_camera, mask_lens)
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


def _pixels(x: Tensor, y: Tensor, ok: Tensor, camera: Tensor, lens: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel (N,) of ideal points, 0 where they are not in the image, and whether they are."""
    fx, fy, cx, cy, width, height, *_, largest, p1, p2 = camera
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


def _fake(xyz: Tensor, starts: Tensor, owners: Tensor, spheres: Tensor, pose: Tensor, depth: Tensor, depth_camera: Tensor,
          depth_lens: Tensor, masks: Tensor, mask_camera: Tensor, mask_lens: Tensor, num_masks: int, near: float,
          absolute: float, relative: float, pieces: Tensor, cut_share: float,
          cut_points: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    seen, votes, piece_seen, piece_votes = (
        xyz.new_empty(torch.library.get_ctx().new_dynamic_size(), width, dtype=torch.int32) for width in (2, 3, 2, 3))
    return seen, votes, piece_seen, piece_votes


_op = define(
    "lift_vote(Tensor xyz, Tensor starts, Tensor owners, Tensor spheres, Tensor pose, Tensor depth, Tensor depth_camera, "
    "Tensor depth_lens, Tensor masks, Tensor mask_camera, Tensor mask_lens, int num_masks, float near, float absolute, "
    "float relative, Tensor pieces, float cut_share, int cut_points) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=on_cpu(_reference), fake=_fake)
