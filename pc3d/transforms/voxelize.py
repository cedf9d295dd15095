"""From points to the features and voxels the network reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d import ops
from pc3d.errors import DataError, explain
from pc3d.ops.sparse_map import MAX_EXTENT
from pc3d.structures import PointCloud
from pc3d.transforms.tensors import as_tensor


def point_features(cloud: PointCloud, *, use_rgb: bool = True, use_normals: bool = True,
                   color_shift: Sequence[float] = (0.0, 0.0, 0.0)) -> NDArray[np.float32]:
    """Network input (N, C): rgb in [-1, 1] plus a shift, xyz in metres, normal; zeros where a column is missing."""
    rgb, normals = (None if column is None else as_tensor(column) for column in (cloud.rgb, cloud.normals))
    features = ops.point_features(rgb, as_tensor(cloud.xyz), normals, torch.tensor(color_shift, dtype=torch.float32))
    return features[:, 0 if use_rgb else 3:9 if use_normals else 6].numpy()


def voxelize(positions: NDArray[np.float32], *, source: object = None) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Group points (N, 3), in voxels from 0 on, by their voxel: (voxel coordinates (V, 3), point_to_voxel (N,)).

    Voxels come in the order of (x, y, z). Raises DataError, naming ``source``, when the scan spans more voxels along an
    axis than sparse convolutions can address.
    """
    points = as_tensor(positions)
    if len(points):
        low, high, _ = ops.column_stats(points)
        if not (bool((low >= 0).all()) and bool((high < MAX_EXTENT).all())):
            raise DataError(explain("the scan is too large for its voxels", where=source,
                                    got=f"{', '.join(f'{e:.3g}' for e in (high - low).tolist())} voxels along x, y, z",
                                    expected=f"less than {MAX_EXTENT}",
                                    do="Check its units (metres) and outliers, or cut it into parts."))
    coords, point_to_voxel = ops.voxel_ids(points)
    return coords.numpy(), point_to_voxel.numpy()


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
