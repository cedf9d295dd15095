"""Lifting: projection and votes of 200 frames and some 6,000 masks on scene S, and each way to associate them, beside scipy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pc3d.bench.compare import Row, compare, measure
from pc3d.bench.lift_peer import peer_consensus, peer_finish, peer_votes
from pc3d.bench.scene import ROOM, make_scene, scene_surfaces
from pc3d.errors import DataError, explain
from pc3d.lift import FrameMasks, Lifter
from pc3d.lift.votes import Votes
from pc3d.structures import Camera, Frame, Instances, PointCloud
from pc3d.superpoints import compute_superpoints

NUM_FRAMES, STRIPS, COARSE = 200, 7, 8
METHODS = ("consensus", "region", "hierarchical")
CAMERA = Camera(640, 480, 577.6, 577.6, 319.5, 239.5)


@dataclass(frozen=True, eq=False)
class Data:
    """Scene S with superpoints, and frames whose depth and masks lie in memory."""

    cloud: PointCloud
    frames: list[tuple[Frame, FrameMasks, NDArray[np.float32]]]


def run(rounds: int) -> Iterator[Row]:
    """Yield a row for projection and votes, one for each way to make instances of them, and two for both together."""
    data = make_data()
    lifter = lifted(data)
    votes = lifter.votes()
    figures = {"points": len(data.cloud), "frames": votes.num_frames, "masks": votes.num_masks,
               "superpoints": len(votes.sizes), "visible_pairs": int(votes.visible.sum())}
    yield compare("projection and votes", lambda: lifted(data).votes(), lambda: peer_votes(data, lifter.scan.pieces), rounds,
                  peer_name="numpy", same=_same_votes, figures=figures)
    for method in METHODS:
        yield measure(f"instances by {method}, of the same votes", partial(lifter.instances, method), rounds)
    yield compare("all of it, by consensus", lambda: lifted(data).instances("consensus"), lambda: _peer_instances(data, lifter),
                  rounds, peer_name="numpy and scipy", same=_same_instances)
    yield measure("all of it, by hierarchical", lambda: lifted(data).instances("hierarchical"), rounds)


def make_data(num_frames: int = NUM_FRAMES, seed: int = 0) -> Data:
    """Cameras on a circle through the room; depth by ray casting; masks are objects cut into vertical strips."""
    rng = np.random.default_rng(seed)
    cloud = compute_superpoints(make_scene(seed))
    corners, sides, instances, turn = scene_surfaces(seed)
    small = CAMERA.resized(CAMERA.width // COARSE, CAMERA.height // COARSE)
    rays, small_rays, surfaces = _rays(CAMERA), _rays(small), (corners.astype(np.float32), sides.astype(np.float32))
    frames = []
    for index in range(num_frames):
        pose = turn @ _pose(rng, index / num_frames)
        depth, seen = _cast(*surfaces, pose, rays, small_rays)
        cuts = np.sort(rng.uniform(0, CAMERA.width, STRIPS - 1))
        strip = np.searchsorted(cuts, np.arange(CAMERA.width))
        numbers = np.where(seen >= 0, instances[seen] * STRIPS + strip + 1, 0)
        masks = FrameMasks.from_label_map(numbers)
        frames.append((Frame(f"{index:04d}", CAMERA, CAMERA, pose, _no_image, None), masks, depth))
    return Data(cloud, frames)


def _no_image() -> NDArray[np.uint8]:
    return np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)


def _pose(rng: np.random.Generator, turn: float) -> NDArray[np.float64]:
    angle, middle = 4 * np.pi * turn, np.array([*ROOM[:2], 0]) / 2
    eye = middle + [1.8 * np.cos(angle), 1.4 * np.sin(angle), 2.0 + rng.normal(0, 0.1)]
    target = middle + [*rng.normal(0, 0.4, 2), 0.5]
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.stack([right, np.cross(forward, right), forward], axis=1), eye
    return pose


def _cast(corners: NDArray[np.float32], sides: NDArray[np.float32], pose: NDArray[np.float64], rays: NDArray[np.float32],
          small_rays: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Depth (H, W) and surface (H, W): which one is found on every eighth pixel, how far it is on all of them."""
    rotation = pose[:3, :3].astype(np.float32)
    corner, (first, second) = (corners - pose[:3, 3].astype(np.float32)) @ rotation, np.swapaxes(sides @ rotation, 0, 1)
    normal = np.cross(first, second)
    reach = (corner * normal).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.nan_to_num(reach / (small_rays @ normal.T), posinf=0, neginf=0)                  # (P, surfaces)
    inside = distance > 0.1
    for side in (first, second):
        along = (distance * (small_rays @ side.T) - (corner * side).sum(axis=1)) / (side * side).sum(axis=1)
        inside &= (along >= 0) & (along <= 1)
    seen = np.where(inside.any(axis=1), np.where(inside, distance, np.inf).argmin(axis=1), -1)
    seen = seen.reshape(CAMERA.height // COARSE, -1).repeat(COARSE, axis=0).repeat(COARSE, axis=1)
    flat = seen.ravel()
    depth = reach[flat] / np.maximum(np.abs(np.einsum("ij,ij->i", rays, normal[flat])), 1e-6)
    return np.where(flat >= 0, np.abs(depth), 0).reshape(seen.shape).astype(np.float32), seen


def _rays(camera: Camera) -> NDArray[np.float32]:
    v, u = np.mgrid[:camera.height, :camera.width]
    return camera.rays(np.stack([u.ravel(), v.ravel()], axis=1)).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------- both sides


def lifted(data: Data) -> Lifter:
    """All frames counted by pc3d, the layout of the scan with it."""
    lifter = Lifter(data.cloud)
    lifter.extend(data.frames)
    return lifter


def _same_votes(ours: Votes, theirs: Votes) -> None:
    for name in ("counts", "visible", "piece_counts", "piece_visible"):
        first, second = getattr(ours, name), getattr(theirs, name)
        if first.shape != second.shape or (first != second).nnz:
            raise DataError(explain("the two sides count differently", where=name))


def _peer_instances(data: Data, lifter: Lifter) -> Instances:
    """The peer's votes, groups and parts; scores and labels are the same code on both sides."""
    votes = peer_votes(data, lifter.scan.pieces)
    return peer_finish(peer_consensus(votes, lifter.config), votes, lifter.scan, lifter.config)


def _same_instances(ours: Instances, theirs: Instances) -> None:
    if not (np.array_equal(ours.bits, theirs.bits) and np.allclose(ours.scores, theirs.scores)):
        raise DataError(explain("the two sides find other instances", got=len(ours), expected=len(theirs)))
