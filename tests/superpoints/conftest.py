"""A box of a room: its mesh, which wall every vertex is on, and points sampled from its surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest


@dataclass(frozen=True)
class BoxRoom:
    xyz: np.ndarray
    faces: np.ndarray
    sides: np.ndarray  # side of the box (0..5) per vertex; vertices on an edge of the room have one of its sides


def _side(axis: int, far: bool, size: tuple[float, float, float], step: float) -> tuple[np.ndarray, np.ndarray]:
    b, c = (axis + 1) % 3, (axis + 2) % 3
    num_b, num_c = round(size[b] / step) + 1, round(size[c] / step) + 1
    u, v = np.meshgrid(np.arange(num_b), np.arange(num_c), indexing="ij")
    xyz = np.zeros((u.size, 3))
    xyz[:, axis], xyz[:, b], xyz[:, c] = far * size[axis], u.ravel() * step, v.ravel() * step
    q = np.arange(u.size).reshape(num_b, num_c)[:-1, :-1].ravel()
    faces = np.concatenate([np.stack([q, q + num_c, q + 1], 1), np.stack([q + num_c, q + num_c + 1, q + 1], 1)])
    return xyz, faces[:, ::-1] if far else faces


def make_box_room(size: tuple[float, float, float] = (2.4, 2.0, 1.6), step: float = 0.05) -> BoxRoom:
    parts = [_side(axis, far, size, step) for axis in range(3) for far in (False, True)]
    starts = np.cumsum([0, *[len(xyz) for xyz, _ in parts]])
    xyz = np.concatenate([part[0] for part in parts])
    faces = np.concatenate([part[1] + start for part, start in zip(parts, starts)])
    sides = np.repeat(np.arange(6), np.diff(starts))
    _, first, welded = np.unique(np.round(xyz / step).astype(int), axis=0, return_index=True, return_inverse=True)
    return BoxRoom(xyz[first].astype(np.float32), welded.reshape(-1)[faces], sides[first])


@pytest.fixture(scope="session")
def box_room() -> BoxRoom:
    return make_box_room()
