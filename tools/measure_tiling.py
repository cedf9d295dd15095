"""AP of a network on all scans of a split placed side by side, as one storey: in one piece, and in tiles of some sizes.

``python tools/measure_tiling.py DATA/SPLIT --tiles 6 7``: the table in docs/results.md. The scans one by one are measured too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from pc3d.data import ScanDataset
from pc3d.engine import Segmenter
from pc3d.engine.evaluate import add_scan
from pc3d.metrics import InstanceAP
from pc3d.structures import PointCloud
from pc3d.weights import DEFAULT_MODEL

WALL = 0.2  # metres between rooms


def storey(rooms: list[PointCloud]) -> PointCloud:
    """The points of rooms wall to wall in rows; ids of superpoints and instances go on from room to room."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("xyz", "rgb", "normals", "labels", "instances", "superpoints")}
    next_id = {"instances": 0, "superpoints": 0}
    for room, corner in zip(rooms, corners([np.ptp(room.xyz[:, :2], axis=0) for room in rooms])):
        parts["xyz"].append(room.xyz - [*room.xyz[:, :2].min(axis=0), 0] + [*corner, 0])
        for name in ("rgb", "normals", "labels"):
            parts[name].append(getattr(room, name))
        for name, first in next_id.items():
            ids = getattr(room, name)
            parts[name].append(np.where(ids >= 0, ids + first, ids))
            next_id[name] = first + int(ids.max()) + 1
    return PointCloud(**{name: np.concatenate(columns) for name, columns in parts.items()})


def corners(sizes: list[np.ndarray]) -> list[tuple[float, float]]:
    """Where rooms of sizes (2,) begin, side by side in about as many rows as there are rooms in each."""
    places, x, y, deepest, per_row = [], 0.0, 0.0, 0.0, int(np.ceil(np.sqrt(len(sizes))))
    for number, (width, depth) in enumerate(sizes):
        if number and number % per_row == 0:
            x, y, deepest = 0.0, y + deepest + WALL, 0.0
        places.append((x, y))
        x, deepest = x + float(width) + WALL, max(deepest, float(depth))
    return places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("split", type=Path, help="folder of labelled scans, such as data/synth/val")
    parser.add_argument("network", nargs="?", default=DEFAULT_MODEL)
    parser.add_argument("--tiles", type=float, nargs="+", default=[6.0], help="sides of the tiles, metres")
    parser.add_argument("--views", type=int, help="sides to look from; not given: what the network's config says")
    options = parser.parse_args()
    scans = ScanDataset(options.split.parent, options.split.name)
    rooms = [scans[index] for index in range(len(scans))]
    whole = storey(rooms)
    print(f"{len(whole):,} points, {np.ptp(whole.xyz[:, 0]):.0f} x {np.ptp(whole.xyz[:, 1]):.0f} m")
    print("| | AP | AP50 | AP25 | s |\n| --- | --- | --- | --- | --- |")
    segmenter = Segmenter.from_pretrained(options.network, views=options.views)
    config = segmenter.config
    for name, side, clouds in [("room by room", None, rooms), ("in one piece", None, [whole]),
                               *((f"tiles of {side:g} m", side, [whole]) for side in options.tiles)]:
        segmenter.config = config.with_overrides([f"inference.tile={'null' if side is None else side}"])
        metric, start = InstanceAP(scans.classes), time.perf_counter()
        for cloud in clouds:
            add_scan(metric, cloud, segmenter(cloud).instances)
        result, seconds = metric.result(), time.perf_counter() - start
        figures = (f"{100 * value:.1f}" for value in (result.ap, result.ap50, result.ap25))
        print(f"| {name} | {' | '.join(figures)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
