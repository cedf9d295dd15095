"""Scans side by side, as rooms of one storey, and windows on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.structures import PointCloud
from pc3d.structures.point_cloud import COLUMNS

WALL = 0.2  # metres between rooms
IDS = ("instances", "superpoints")


def wall_to_wall(rooms: Sequence[PointCloud]) -> PointCloud:
    """The points of scans side by side, in about as many rows as there are scans in each.

    Columns that not all of them have are left out; ids of instances and superpoints go on from scan to scan.
    """
    names = [name for name in COLUMNS if all(getattr(room, name) is not None for room in rooms)]
    low = [np.append(room.xyz[:, :2].min(axis=0), 0) for room in rooms]
    places = _corners([np.ptp(room.xyz[:, :2], axis=0) for room in rooms])
    parts: dict[str, list[Any]] = {name: [getattr(room, name) for room in rooms] for name in names}
    parts["xyz"] = [room.xyz + (place - corner).astype(np.float32) for room, place, corner in zip(rooms, places, low)]
    for name in set(IDS) & set(names):
        first = np.cumsum([0, *(int(ids.max(initial=-1)) + 1 for ids in parts[name])])
        parts[name] = [np.where(ids >= 0, ids + start, ids) for ids, start in zip(parts[name], first)]
    columns: dict[str, Any] = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return PointCloud(**columns, metadata=rooms[0].metadata)


def _corners(sizes: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    """Where (3,) rooms of sizes (2,) begin."""
    places, x, y, deepest, per_row = [], 0.0, 0.0, 0.0, int(np.ceil(np.sqrt(len(sizes))))
    for number, (width, depth) in enumerate(sizes):
        if number and number % per_row == 0:
            x, y, deepest = 0.0, y + deepest + WALL, 0.0
        places.append(np.array([x, y, 0.0]))
        x, deepest = x + float(width) + WALL, max(deepest, float(depth))
    return places


def random_window(cloud: PointCloud, side: float, rng: np.random.Generator) -> PointCloud:
    """The points in a square of ``side`` metres, seen from above, around a random point, moved to lie in the cloud's box."""
    low, high = cloud.xyz[:, :2].min(axis=0), cloud.xyz[:, :2].max(axis=0)
    middle = cloud.xyz[rng.integers(len(cloud)), :2]
    begin = np.maximum(np.minimum(middle - side / 2, high - side), low)
    return cloud[np.all((cloud.xyz[:, :2] >= begin) & (cloud.xyz[:, :2] <= begin + side), axis=1)]
