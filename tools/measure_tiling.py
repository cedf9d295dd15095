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
from pc3d.transforms import wall_to_wall
from pc3d.weights import DEFAULT_MODEL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("split", type=Path, help="folder of labelled scans, such as data/synth/val")
    parser.add_argument("network", nargs="?", default=DEFAULT_MODEL)
    parser.add_argument("--tiles", type=float, nargs="+", default=[6.0], help="sides of the tiles, metres")
    parser.add_argument("--views", type=int, help="sides to look from; not given: what the network's config says")
    options = parser.parse_args()
    scans = ScanDataset(options.split.parent, options.split.name)
    rooms = [scans[index] for index in range(len(scans))]
    whole = wall_to_wall(rooms)
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
