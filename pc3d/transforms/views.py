"""The same scan from another side, for looking at it more than once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pc3d.structures import PointCloud

QUARTER_TURNS = (0, 2, 1, 3)    # of each view: the second looks from the opposite side


def view(cloud: PointCloud, index: int, *, grey: bool = False) -> PointCloud:
    """View ``index`` (0 to 3) of a cloud: turned about z by quarters, which is exact; view 0 is the cloud itself.

    With ``grey``, every second view is without colours: what a network makes of the shape alone.
    """
    turns = QUARTER_TURNS[index]
    cloud = cloud.replace(rgb=None) if grey and index % 2 else cloud
    return cloud if turns == 0 else cloud.replace(
        xyz=_turned(cloud.xyz, turns), normals=None if cloud.normals is None else _turned(cloud.normals, turns))


def _turned(rows: NDArray[np.float32], turns: int) -> NDArray[np.float32]:
    x, y, z = rows.T
    for _ in range(turns):
        x, y = -y, x
    return np.stack([x, y, z], axis=1)
