"""From points to the features and voxels the network reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.ops.sparse_map import MAX_EXTENT
from pc3d.structures import PointCloud


def point_features(cloud: PointCloud, *, use_rgb: bool = True, use_normals: bool = True,
                   color_shift: Sequence[float] = (0.0, 0.0, 0.0)) -> NDArray[np.float32]:
    """Network input (N, C): rgb in [-1, 1] plus a shift, xyz in metres, normal; zeros where a column is missing."""
    columns = []
    if use_rgb:
        shift = np.asarray(color_shift, dtype=np.float32)
        columns.append(np.zeros_like(cloud.xyz) if cloud.rgb is None else cloud.rgb / np.float32(127.5) - 1 + shift)
    columns.append(cloud.xyz)
    if use_normals:
        columns.append(np.zeros_like(cloud.xyz) if cloud.normals is None else cloud.normals)
    return np.concatenate(columns, axis=1, dtype=np.float32)


def voxelize(positions: NDArray[np.floating], *, source: object = None) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Group points (N, 3), in voxel units, into voxels: (voxel coordinates (V, 3) from 0, point_to_voxel (N,)).

    Voxels come in the order of (x, y, z). Raises DataError, naming ``source``, when the scan spans more voxels along an
    axis than sparse convolutions can address.
    """
    if len(positions) == 0:
        return np.zeros((0, 3), np.int32), np.zeros(0, np.int64)
    extent = np.ptp(positions, axis=0)
    if not (extent < MAX_EXTENT).all():
        raise DataError(explain("the scan is too large for its voxels", where=source,
                                got=f"{', '.join(f'{e:.3g}' for e in extent)} voxels along x, y, z",
                                expected=f"less than {MAX_EXTENT}",
                                do="Check its units (metres) and outliers, or cut it into parts."))
    cells = np.floor(positions - positions.min(axis=0)).astype(np.int64)
    keys = (cells[:, 0] * MAX_EXTENT + cells[:, 1]) * MAX_EXTENT + cells[:, 2]
    voxels, point_to_voxel = np.unique(keys, return_inverse=True)
    coords = np.stack([voxels // MAX_EXTENT**2, voxels // MAX_EXTENT % MAX_EXTENT, voxels % MAX_EXTENT], axis=1)
    return coords.astype(np.int32), point_to_voxel.reshape(-1)


def spatial_shape(max_coord: Sequence[int], levels: int, rule: str) -> tuple[int, int, int]:
    """Grid size the sparse convolutions run on.

    ``batch``: max(coordinate + 1, 128), as the paper's code; an odd size loses its last plane at every stride-2 level.
    ``even``: the next multiple of 2^(levels-1), so that no voxel is lost and batch mates do not matter.
    """
    if rule == "batch":
        x, y, z = (max(int(c) + 1, 128) for c in max_coord)
    else:
        step = 1 << (levels - 1)
        x, y, z = ((int(c) // step + 1) * step for c in max_coord)
    return x, y, z
