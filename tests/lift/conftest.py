"""A room of boxes that is known to the millimetre: its points, superpoints, and what a camera sees, by arithmetic alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pc3d.structures import Camera, Frame, PointCloud

ROOM = np.array([[0, 0, 0], [4, 3.5, 2.4]], float)
BOXES = np.array([[[0.4, 0.4, 0], [1.2, 1.0, 0.8]], [[2.4, 0.3, 0], [3.6, 0.9, 0.5]], [[0.3, 2.2, 0], [0.9, 3.2, 1.2]],
                  [[2.6, 2.2, 0], [3.4, 3.0, 0.7]], [[1.6, 1.5, 0], [2.0, 1.9, 0.45]]])
CAMERA = Camera(80, 60, 60.0, 60.0, 39.5, 29.5)
STEP = 0.04


def look_at(eye, target) -> NDArray[np.float64]:
    """Camera-to-world pose, OpenCV axes."""
    forward = np.subtract(target, eye) / np.linalg.norm(np.subtract(target, eye))
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = eye
    return pose


def cast(camera: Camera, pose: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Depth (H, W) and which box (-1: the room) each pixel sees."""
    v, u = np.mgrid[:camera.height, :camera.width]
    rays = camera.rays(np.stack([u.ravel(), v.ravel()], axis=1)) @ pose[:3, :3].T
    eye = pose[:3, 3]
    with np.errstate(divide="ignore"):
        depth = np.maximum((ROOM[0] - eye) / rays, (ROOM[1] - eye) / rays).min(axis=1)
        seen = np.full(len(rays), -1)
        for number, box in enumerate(BOXES):
            sides = (box[:, None] - eye) / rays
            enter, leave = sides.min(axis=0).max(axis=1), sides.max(axis=0).min(axis=1)
            hit = (enter > 0) & (enter <= leave) & (enter < depth)
            depth[hit], seen[hit] = enter[hit], number
    return depth.reshape(u.shape).astype(np.float32), seen.reshape(u.shape)


def _face(low, high, axis, side) -> NDArray[np.float64]:
    a, b = [i for i in range(3) if i != axis]
    grids = [np.arange(low[i] + STEP / 2, high[i], STEP) for i in (a, b)]
    points = np.empty((len(grids[0]) * len(grids[1]), 3))
    points[:, a], points[:, b] = (g.ravel() for g in np.meshgrid(*grids, indexing="ij"))
    points[:, axis] = (low, high)[side][axis]
    return points


def make_cloud() -> PointCloud:
    """Points on all faces but the floor's below boxes; superpoints are tiles of half a metre, instances the boxes."""
    parts, owner, faces = [], [], []
    for number, (low, high) in enumerate([*BOXES, ROOM]):
        for face in range(6):
            axis, side = divmod(face, 2)
            if number < len(BOXES) and axis == 2 and side == 0:
                continue
            points = _face(low, high, axis, side)
            below = ((points > BOXES[:, None, 0]) & (points < BOXES[:, None, 1]))[..., :2].all(axis=2) & (points[:, 2] <= 0)
            points = points[~below.any(axis=0)]
            parts.append(points)
            owner.append(np.full(len(points), number if number < len(BOXES) else -1))
            faces.append(np.full(len(points), 6 * number + face))
    xyz, instance, face_id = np.concatenate(parts), np.concatenate(owner), np.concatenate(faces)
    tiles = np.concatenate([face_id[:, None], np.floor(xyz / 0.5).astype(int)], axis=1)
    superpoints = np.unique(tiles, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.random.default_rng(0).permutation(len(xyz))    # files are in no helpful order
    return PointCloud(xyz=xyz[order].astype(np.float32), superpoints=superpoints[order], instances=instance[order],
                      labels=np.where(instance[order] >= 0, 0, -1))


@dataclass(frozen=True)
class Scene:
    """The room's cloud, its frames, and the boxes each frame sees (H, W)."""

    cloud: PointCloud
    frames: list[Frame]
    seen: list[NDArray[np.int64]]

    def look(self, name: str, eye, target) -> Frame:
        """One more frame."""
        return make_frame(name, look_at(np.array(eye, float), np.array(target, float)))[0]


def make_frame(name: str, pose: NDArray[np.float64], camera: Camera = CAMERA) -> tuple[Frame, NDArray[np.int64]]:
    depth, seen = cast(camera, pose)
    rgb = np.repeat((60 + 30 * (seen + 1))[..., None], 3, axis=2).astype(np.uint8)
    return Frame(name, camera, camera, pose, lambda: rgb, lambda: depth), seen


@pytest.fixture(scope="session")
def scene() -> Scene:
    """24 frames from four corners."""
    frames = []
    for i in range(24):
        angle = i * 2 * np.pi / 24
        eye = np.array([2 + 1.6 * np.cos(angle), 1.75 + 1.4 * np.sin(angle), 1.6])
        target = np.array([2 - 0.8 * np.cos(angle + 0.4), 1.75 - 0.8 * np.sin(angle + 0.4), 0.4])
        frames.append(make_frame(f"{i:04d}", look_at(eye, target)))
    return Scene(make_cloud(), [frame for frame, _ in frames], [seen for _, seen in frames])


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> Path:
    """One folder for each family of 2D models, ``sam2_video``, and ``sam3_whole`` with everything SAM 3 is."""
    from tests.lift import tiny_models

    root = tmp_path_factory.mktemp("checkpoints")
    for name, make in tiny_models.MAKERS.items():
        tiny_models.save_checkpoint(root / name, make, tiny_models.SETTINGS.get(name, {}))
    tiny_models.save_checkpoint(root / "sam2_video", tiny_models.make_sam2_video, {})
    tiny_models.save_sam3(root / "sam3_whole")
    return root
