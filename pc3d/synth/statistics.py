"""What a set of labelled scans is like in numbers, to set made scans beside real ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.structures import PointCloud

#: Voxels that neighbours are counted at (metres): of the ScanNet configs, and of ``configs/relation3d_synth.yaml``.
VOXEL_SIZES = (0.02, 0.04)


@dataclass(frozen=True, eq=False)
class SetStatistics:
    """Quantities of every scan, and objects by class."""

    classes: tuple[str, ...]
    scans: dict[str, NDArray[np.float64]]   # quantity -> its value in each scan
    instances: NDArray[np.int64]            # (scans, classes) objects
    sizes: list[NDArray[np.int64]]          # class -> vertices of each of its objects

    def rows(self) -> list[tuple[str, float, float, float]]:
        """(quantity, mean, least, most) over the scans."""
        return [(name, float(values.mean()), float(values.min()), float(values.max())) for name, values in self.scans.items()]

    def class_rows(self) -> list[tuple[str, int, float, int, int]]:
        """(class, objects, objects a scan, scans that show one, median of an object's vertices) of every class."""
        return [(name, int(count.sum()), float(count.mean()), int((count > 0).sum()), int(np.median(size)) if len(size) else 0)
                for name, count, size in zip(self.classes, self.instances.T, self.sizes)]

    def record(self) -> dict[str, Any]:
        """All figures as json takes them."""
        return {
            "scans": len(self.instances),
            "quantities": {name: {"mean": mean, "min": low, "max": high} for name, mean, low, high in self.rows()},
            "classes": {name: {"objects": total, "per_scan": mean, "scans": shown, "median_vertices": size}
                        for name, total, mean, shown, size in self.class_rows()},
        }


def measure_set(scans: Iterable[PointCloud], classes: Sequence[str]) -> SetStatistics:
    """Measure scans (at least one) with faces, labels (indices into ``classes``, -1 none), instances and superpoints."""
    quantities: dict[str, list[float]] = {}
    counts, sizes = [], [np.empty(0, np.int64)] * len(classes)
    for scan in scans:
        for name, value in scan_quantities(scan).items():
            quantities.setdefault(name, []).append(value)
        label, size = objects(scan)
        counts.append(np.bincount(label, minlength=len(classes)))
        sizes = [np.concatenate([old, size[label == index]]) for index, old in enumerate(sizes)]
    columns = {name: np.array(values) for name, values in quantities.items()}
    return SetStatistics(tuple(classes), columns, np.array(counts), sizes)


def scan_quantities(scan: PointCloud) -> dict[str, float]:
    """The figures of one scan; those of its surface only where it has faces."""
    found: dict[str, float] = {"vertices": len(scan)}
    if scan.faces is not None and len(scan.faces):
        area = surface_area(scan)
        found |= {"surface (m²)": area, "vertices per m²": len(scan) / area}
    for size in VOXEL_SIZES:
        count, neighbours = voxel_neighbours(scan.xyz, size)
        found |= {f"voxels of {size * 100:.0f} cm": count, f"neighbours of a voxel of {size * 100:.0f} cm": neighbours}
    if scan.superpoints is not None:
        superpoints = int(scan.superpoints.max(initial=-1)) + 1
        found |= {"superpoints": superpoints, "vertices of a superpoint": len(scan) / max(superpoints, 1)}
    label, _ = objects(scan)
    none = np.ones(len(scan), bool) if scan.instances is None else scan.instances < 0
    return found | {"vertices of no object (%)": 100 * float(none.mean()), "objects": len(label)}


def objects(scan: PointCloud) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Class and vertices of every labelled object of a scan."""
    if scan.labels is None or scan.instances is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    inside = (scan.instances >= 0) & (scan.labels >= 0)
    _, first, size = np.unique(scan.instances[inside], return_index=True, return_counts=True)
    return scan.labels[inside][first].astype(np.int64), size.astype(np.int64)


def surface_area(scan: PointCloud) -> float:
    """Area of a mesh's triangles in square metres."""
    corners = scan.xyz.astype(np.float64)[scan.faces]
    return float(np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2)


def voxel_neighbours(xyz: NDArray[np.float32], size: float) -> tuple[int, float]:
    """Occupied voxels of ``size`` metres, and how many of the 26 around one are occupied too, on average."""
    cells = np.floor((xyz - xyz.min(axis=0)) / np.float32(size)).astype(np.int64) + 1
    _, y, z = cells.max(axis=0) + 2
    keys = np.unique((cells[:, 0] * y + cells[:, 1]) * z + cells[:, 2])
    around = [(dx * y + dy) * z + dz for dx in (-1, 0, 1) for dy in (-1, 0, 1) for dz in (-1, 0, 1)]
    pairs = 0
    for step in around[14:]:    # half of the 26: the other half are the same pairs
        place = np.minimum(np.searchsorted(keys, keys + step), len(keys) - 1)
        pairs += int((keys[place] == keys + step).sum())
    return len(keys), 2 * pairs / len(keys)
