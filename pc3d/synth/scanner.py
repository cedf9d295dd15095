"""A virtual hand-held RGB-D scanner: trajectory, ray casting, sensor noise, fusion, and labels by the closest true surface.

Noise follows published Kinect models: axial noise growing with z squared (Nguyen et al. 2012) and disparity steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from pc3d.errors import require_package
from pc3d.reconstruct import fuse
from pc3d.structures import Camera, Frame, PointCloud
from pc3d.synth.primitives import rotation
from pc3d.synth.rooms import Room
from pc3d.synth.shading import Shader, blurred


@dataclass(frozen=True)
class ScannerConfig:
    """How a room is scanned; lengths in metres, angles in degrees."""

    width: int = 256
    height: int = 192
    field_of_view: float = 62.0
    stations: int = 8  # of a full scan of a room of 20 square metres
    views: int = 10  # frames at each station
    partial: float = 0.5  # share of scans that leave out some of the room
    depth_min: float = 0.3
    depth_max: float = 5.0
    noise: float = 1.0  # factor on all sensor and pose noise; 0 scans perfectly
    voxel_size: float = 0.025
    max_label_distance: float = 0.05
    min_instance_points: int = 100


@dataclass(frozen=True, eq=False)
class View:
    """One frame and what it truly shows: class and instance of each pixel (H, W), -1 for none."""

    frame: Frame
    labels: NDArray[np.int64]
    instances: NDArray[np.int64]


def scan_room(room: Room, rng: np.random.Generator, config: ScannerConfig | None = None) -> PointCloud:
    """Scan a room into a mesh with colours, normals, labels (index into SCANNET_CLASSES, -1 none) and instances (-1 none).

    Instances are numbered 0, 1, ... over those of which at least ``min_instance_points`` vertices were seen.
    Raises BackendError without Open3D.
    """
    caster = Caster(room)
    return _fuse(room, caster, virtual_frames(room, rng, config, caster), config or ScannerConfig())[0]


def scan_views(room: Room, rng: np.random.Generator, config: ScannerConfig | None = None) -> tuple[PointCloud, list[View]]:
    """Scan a room as ``scan_room`` does and keep the views too, their instances numbered as in the mesh."""
    caster = Caster(room)
    views = list(virtual_views(room, rng, config, caster))
    mesh, number = _fuse(room, caster, (view.frame for view in views), config or ScannerConfig())
    numbered = [replace(view, instances=number[view.instances], labels=np.where(number[view.instances] < 0, -1, view.labels))
                for view in views]
    return mesh, numbered


def _fuse(room: Room, caster: Caster, frames: Iterable[Frame], config: ScannerConfig) -> tuple[PointCloud, NDArray[np.int64]]:
    """The labelled mesh, and the number in it of each of the room's instances (-1: seen too little; last: none)."""
    mesh = fuse(frames, config.voxel_size, depth_min=config.depth_min, depth_max=config.depth_max, min_views=3)
    local = (mesh.xyz - room.T_world_room[:3, 3]) @ room.T_world_room[:3, :3]
    labels, old = caster.labels_at(local.astype(np.float32), config.max_label_distance)
    labels, instances = renumber(labels, old, config.min_instance_points)
    number = np.full(int(room.face_instances.max(initial=-1)) + 2, -1, np.int64)
    number[old[old >= 0]] = instances[old >= 0]
    return mesh.replace(labels=labels, instances=instances, metadata={**mesh.metadata, "room": room.kind}), number


def renumber(
    labels: NDArray[np.int64], instances: NDArray[np.int64], min_points: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Drop instances of fewer than ``min_points`` vertices and number the others without gaps."""
    counts = np.bincount(instances + 1)
    kept = counts >= max(min_points, 1)
    kept[0] = False
    new_id = np.where(kept, np.cumsum(kept) - 1, -1)[instances + 1]
    return np.where(new_id >= 0, labels, -1), new_id


class Caster:
    """Rays and closest points against the triangles of one room."""

    def __init__(self, room: Room) -> None:
        require_package("open3d", extra="viz", purpose="scanning a synthetic room")
        import open3d

        self.room = room
        self.tensor: Any = open3d.core.Tensor
        self.scene: Any = open3d.t.geometry.RaycastingScene()
        self.scene.add_triangles(room.mesh.vertices, room.mesh.faces.astype(np.uint32))

    def cast(self, origin: NDArray[Any], directions: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Distance (N,) in units of the directions (inf for a miss), triangle (N,) (-1 for a miss) and normal (N, 3)."""
        rays = np.concatenate([np.broadcast_to(origin, directions.shape), directions], axis=1, dtype=np.float32)
        hits = self.scene.cast_rays(self.tensor(rays))
        face = hits["primitive_ids"].numpy().astype(np.int64)
        return hits["t_hit"].numpy(), np.where(face < len(self.room.mesh.faces), face, -1), hits["primitive_normals"].numpy()

    def openness(
        self, points: NDArray[Any], normals: NDArray[Any], directions: NDArray[Any], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """How far (H, W), as a share of half a metre, rays leave each point before they hit something.

        One ray for four by four pixels, cast by chance about the normal; neighbours on the same surface share theirs.
        """
        coarse = np.s_[1::4, 1::4]
        toward = normals[coarse] * -np.sign(np.sum(normals[coarse] * directions[coarse], axis=-1, keepdims=True))
        shape = toward.shape[:2]
        toward = (toward + 0.9 * _unit(rng.standard_normal(toward.shape, dtype=np.float32))).reshape(-1, 3)
        starts = points[coarse].reshape(-1, 3) + 0.01 * toward
        hits = self.scene.cast_rays(self.tensor(np.concatenate([starts, _unit(toward)], axis=1, dtype=np.float32)))
        open_share = np.minimum(hits["t_hit"].numpy() / np.float32(0.5), 1).reshape(shape)
        smooth = _shared(open_share, points[coarse], normals[coarse])
        return uniform_filter(smooth.repeat(4, axis=0).repeat(4, axis=1), 4)[: points.shape[0], : points.shape[1]]

    def labels_at(self, points: NDArray[np.float32], max_distance: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Class and instance of the closest triangle, -1 where it is farther than ``max_distance`` metres."""
        found = self.scene.compute_closest_points(self.tensor(points))
        face = found["primitive_ids"].numpy().astype(np.int64)
        near = np.linalg.norm(found["points"].numpy() - points, axis=1) <= max_distance
        labels, instances = self.room.face_labels[face], self.room.face_instances[face]
        return np.where(near, labels, -1).astype(np.int64), np.where(near, instances, -1).astype(np.int64)


def _shared(values: NDArray[np.float32], points: NDArray[np.float32], normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean (H, W) of values up to 4 pixels away, of points that are near, within 5 cm of the plane, and face as it does."""
    rows, columns = values.shape
    total, count = np.zeros_like(values), np.zeros_like(values)
    for down, right in product(range(-4, 5), repeat=2):
        here = np.s_[max(-down, 0) : rows - max(down, 0), max(-right, 0) : columns - max(right, 0)]
        there = np.s_[max(down, 0) : rows - max(-down, 0), max(right, 0) : columns - max(-right, 0)]
        away = points[there] - points[here]
        off_plane, apart = np.einsum("ijk,ijk->ij", away, normals[here]), np.einsum("ijk,ijk->ij", away, away)
        alike = np.einsum("ijk,ijk->ij", normals[there], normals[here]) > 0.8
        same = alike & (np.abs(off_plane) < 0.05) & (apart < 0.4**2)
        total[here] += values[there] * same
        count[here] += same
    return np.where(count > 0, total / np.maximum(count, 1), values)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-6))


# ---------------------------------------------------------------------------------------------------- trajectory


def trajectory(room: Room, rng: np.random.Generator, config: ScannerConfig) -> list[NDArray[np.float64]]:
    """Poses (T_room_camera) of someone who stops at a few free places and looks around with a slow, bobbing sweep.

    A partial scan comes from fewer stations in one part of the room, or turns less than once around at each.
    """
    area = float(np.clip(np.prod(room.size[:2]) / 20, 0.7, 1.7))
    stations = max(min(config.stations, 3), round(config.stations * area))
    low, high, turn = np.zeros(2), np.ones(2), rng.uniform(1.6, 2.0)
    if rng.random() < config.partial:
        stations = max(min(stations, 3), round(stations * rng.uniform(0.5, 0.9)))
        axis, share = rng.integers(2), rng.uniform(0.5, 1.0)
        low[axis] = rng.choice([0, 1 - share])
        high[axis] = low[axis] + share
        turn *= rng.uniform(0.6, 1.0)
    tilt, facing = rng.uniform(-36, -16), rng.uniform(0, 2 * np.pi)
    poses = []
    for spot in _stations(room, rng, stations, low, high):
        eye, sweep = rng.uniform(1.3, 1.75), rng.choice([-1, 1]) * turn * np.pi
        start = rng.uniform(0, 2 * np.pi) if turn > 1.6 else facing - sweep / 2 + rng.normal(0, 0.5)
        for step in np.arange(config.views) / config.views:
            angle = start + sweep * step + rng.normal(0, 0.05)
            pitch = np.radians(tilt + 20 * np.sin(2 * np.pi * (1.5 * step + rng.uniform(0, 0.15))) + rng.normal(0, 3))
            place = spot + rng.uniform(-0.4, 0.15) * np.array([np.cos(angle), np.sin(angle)])
            place = place if _clearance(room, place[None])[0] > 0.1 else spot
            poses.append(look(np.array([*place, eye + rng.normal(0, 0.03)]), angle, pitch, rng.normal(0, 0.04)))
    return poses


def _clearance(room: Room, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance (N,) of floor places (N, 2) to walls and to what is high enough to bump a camera into, metres."""
    inside = np.minimum(places, room.size[:2] - places).min(axis=1)
    for x0, y0, x1, y1, height in room.rects:
        if height > 1.05:
            outside = np.maximum(np.maximum([x0, y0] - places, places - [x1, y1]), 0)
            inside = np.minimum(inside, np.linalg.norm(outside, axis=1))
    return inside


def _stations(
    room: Room, rng: np.random.Generator, count: int, low: NDArray[np.float64], high: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Places far from each other, over free floor or low things: farthest-point choice among random candidates.

    ``low`` and ``high`` (2,) bound the part of the room they lie in, as shares of its size.
    """
    candidates = rng.uniform(low * room.size[:2], high * room.size[:2], (600, 2))
    clearance = _clearance(room, candidates)
    candidates = candidates[clearance >= min(0.35, float(clearance.max()) * 0.8)]
    chosen = [candidates[0]]
    while len(chosen) < count:
        distance = np.min([np.linalg.norm(candidates - spot, axis=1) for spot in chosen], axis=0)
        chosen.append(candidates[int(np.argmax(distance * rng.uniform(0.6, 1.0, len(candidates))))])
    return chosen


def look(eye: NDArray[np.float64], yaw: float, pitch: float, roll: float = 0.0) -> NDArray[np.float64]:
    """Camera pose (4, 4), OpenCV axes, at ``eye`` looking along ``yaw`` about z, ``pitch`` up; radians."""
    forward = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1) @ rotation(roll, "z")
    pose[:3, 3] = eye
    return pose


def _wobble(rng: np.random.Generator, scale: float) -> NDArray[np.float64]:
    """Small pose error: some millimetres and a tenth of a degree."""
    error = np.eye(4)
    turn = rng.normal(0, np.radians(0.12) * scale, 3)
    error[:3, :3] = rotation(turn[0], "x") @ rotation(turn[1], "y") @ rotation(turn[2], "z")
    error[:3, 3] = rng.normal(0, 0.004 * scale, 3)
    return error


# ---------------------------------------------------------------------------------------------------- frames


def virtual_frames(
    room: Room, rng: np.random.Generator, config: ScannerConfig | None = None, caster: Caster | None = None
) -> Iterator[Frame]:
    """Yield the frames of one scan of ``room``: noisy depth, shaded colour, and the pose a tracker would report."""
    return (view.frame for view in virtual_views(room, rng, config, caster))


def virtual_views(
    room: Room, rng: np.random.Generator, config: ScannerConfig | None = None, caster: Caster | None = None
) -> Iterator[View]:
    """Yield the frames of one scan with the truth of every pixel, by the room's own numbers of instances."""
    config = config or ScannerConfig()
    caster = caster or Caster(room)
    focal = config.width / 2 / np.tan(np.radians(config.field_of_view) / 2)
    camera = Camera(config.width, config.height, focal, focal, (config.width - 1) / 2, (config.height - 1) / 2)
    rays, shader, shape = _pixel_rays(camera), Shader.draw(room, rng), (camera.height, camera.width)
    length = np.linalg.norm(rays, axis=1)
    drift, unsteady = np.eye(4), config.noise * np.exp(rng.uniform(0, np.log(5)))
    for index, pose in enumerate(trajectory(room, rng, config)):
        drift = _wobble(rng, unsteady) if index % config.views == 0 else drift
        origin, directions = pose[:3, 3].astype(np.float32), rays @ pose[:3, :3].T.astype(np.float32)
        depth, face, normal = caster.cast(origin, directions)
        facing = np.abs(np.einsum("ij,ij->i", normal, directions)) / length
        points = origin + directions * np.where(face >= 0, depth, 0)[:, None]
        openness = caster.openness(points.reshape(*shape, 3), normal.reshape(*shape, 3), directions.reshape(*shape, 3), rng)
        rgb = shader.shade(points, normal, face, openness.reshape(-1), rng).reshape(*shape, 3)
        rgb = blurred(rgb, shader.blur * rng.random(), rng) if config.noise > 0 else rgb
        lost = shader.dropout(points, face).reshape(shape)
        measured = measure(depth.reshape(shape), facing.reshape(shape), lost, rng, config)
        reported = room.T_world_room @ drift @ pose @ _wobble(rng, 0.5 * config.noise)
        hit = np.where(face >= 0, face, 0)
        labels, instances = (np.where(face >= 0, column[hit], -1).reshape(shape).astype(np.int64)
                             for column in (room.face_labels, room.face_instances))
        yield View(_as_frame(f"{index:04d}", camera, reported, rgb, measured), labels, instances)


def _as_frame(
    name: str, camera: Camera, pose: NDArray[np.float64], rgb: NDArray[np.uint8], depth: NDArray[np.float32]
) -> Frame:
    return Frame(name, camera, camera, pose, lambda: rgb, lambda: depth)


def _pixel_rays(camera: Camera) -> NDArray[np.float32]:
    v, u = np.mgrid[0 : camera.height, 0 : camera.width]
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(u.shape)], axis=-1)
    return rays.reshape(-1, 3).astype(np.float32)


def measure(
    depth: NDArray[np.float32],
    facing: NDArray[np.float32],
    dropout: NDArray[np.float32],
    rng: np.random.Generator,
    config: ScannerConfig,
) -> NDArray[np.float32]:
    """Turn true depth (H, W) into what a structured-light camera reports; 0 where it reports nothing.

    Noise: sigma = 1.2 mm + 1.9 mm (z - 0.4)^2, most of it per pixel and some in patches, and steps of z^2 / 700 m.
    ``facing`` is the cosine between ray and normal, ``dropout`` the chance that the material returns nothing.
    """
    valid = np.isfinite(depth) & (depth >= config.depth_min) & (depth <= config.depth_max)
    z = np.where(valid, depth, np.float32(1))
    if config.noise > 0:
        noise, single = np.float32(config.noise), np.float32
        rows, columns = (-(-n // 8) for n in depth.shape)
        patch = rng.standard_normal((rows, columns), dtype=np.float32).repeat(8, axis=0).repeat(8, axis=1)
        sigma = noise * (single(0.0012) + single(0.0019) * (z - single(0.4)) ** 2)
        z += sigma * (
            single(0.8) * rng.standard_normal(depth.shape, dtype=np.float32)
            + single(0.5) * patch[: depth.shape[0], : depth.shape[1]]
        )
        step = noise * z * z / single(700)
        z = np.rint(z / step) * step
        lost = np.maximum(1 - facing / single(0.2), 0) + single(0.6) * _edges(depth) + dropout
        valid &= rng.random(depth.shape, dtype=np.float32) > lost * min(noise, single(1))
    return np.where(valid, z, np.float32(0))


def _edges(depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Pixels beside a jump in depth of more than 5 %."""
    filled = np.where(np.isfinite(depth), depth, np.float32(100))
    edge = np.zeros(depth.shape, bool)
    down = np.abs(filled[1:] - filled[:-1]) > np.float32(0.05) * filled[:-1]
    edge[1:] |= down
    edge[:-1] |= down
    across = np.abs(filled[:, 1:] - filled[:, :-1]) > np.float32(0.05) * filled[:, :-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge
