"""AP of a network on labelled scans as they are, and changed as other scanners would change them.

``python tools/measure_robustness.py DATA/SPLIT [NETWORK]``: the table in docs/results.md. Superpoints and normals are computed
anew wherever the mesh is taken away.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pc3d.data import ScanDataset
from pc3d.engine import Segmenter
from pc3d.engine.evaluate import add_scan
from pc3d.metrics import InstanceAP, InstanceAPResult
from pc3d.structures import PointCloud
from pc3d.weights import DEFAULT_MODEL


def turned(cloud: PointCloud, degrees: float) -> PointCloud:
    """The scan turned about z."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]], np.float32)
    return cloud.replace(xyz=cloud.xyz @ turn, normals=None if cloud.normals is None else cloud.normals @ turn)


def bare(cloud: PointCloud) -> PointCloud:
    """The points without their mesh."""
    return cloud.replace(faces=None, normals=None, superpoints=None)


def thinned(cloud: PointCloud, times: int) -> PointCloud:
    """One point of ``times``, chosen at random, without the mesh."""
    chosen = np.random.default_rng(0).permutation(len(cloud))[: len(cloud) // times]
    return bare(cloud)[np.sort(chosen)]


def dimmed(cloud: PointCloud) -> PointCloud:
    """Colours at 40 % of their brightness."""
    return cloud if cloud.rgb is None else cloud.replace(rgb=(0.4 * cloud.rgb).astype(np.uint8))


CHANGES: dict[str, Callable[[PointCloud], PointCloud]] = {
    "as it is": lambda cloud: cloud,
    "turned by 30 degrees": lambda cloud: turned(cloud, 30),
    "colours at 40 % brightness": dimmed,
    "without colours": lambda cloud: cloud.replace(rgb=None),
    "points without the mesh": bare,
    "points without mesh or colours": lambda cloud: bare(cloud).replace(rgb=None),
    "a third of the points": lambda cloud: thinned(cloud, 3),
    "a tenth of the points": lambda cloud: thinned(cloud, 10),
}


def measure(segmenter: Segmenter, scans: ScanDataset, change: Callable[[PointCloud], PointCloud]) -> InstanceAPResult:
    """ScanNet's AP over scans that were changed."""
    metric = InstanceAP(scans.classes)
    for index in range(len(scans)):
        cloud = change(scans[index])
        add_scan(metric, cloud, segmenter(cloud).instances)
    return metric.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("split", type=Path, help="folder of labelled scans, such as data/synth/val")
    parser.add_argument("network", nargs="?", default=DEFAULT_MODEL)
    options = parser.parse_args()
    segmenter, scans = Segmenter.from_pretrained(options.network), ScanDataset(options.split.parent, options.split.name)
    print("| scan | AP | AP50 | AP25 |\n| --- | --- | --- | --- |")
    for name, change in CHANGES.items():
        result = measure(segmenter, scans, change)
        print(f"| {name} | {100 * result.ap:.1f} | {100 * result.ap50:.1f} | {100 * result.ap25:.1f} |", flush=True)


if __name__ == "__main__":
    main()
