"""Which superpoints lie near each other, and what hangs together by that."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pc3d.ops import grid_links, grid_parts
from pc3d.structures.sparse import rows_of


def superpoint_links(xyz: NDArray[np.float32], superpoints: NDArray[np.int64], distance: float) -> csr_matrix:
    """Superpoints (S, S) that come near each other: surely within ``distance / 2``, never beyond 1.8 ``distance``.

    ``xyz`` (N, 3) metres, ``superpoints`` (N,) dense. Two are linked by points in the same or touching cells of a grid.
    """
    count = int(superpoints.max(initial=-1)) + 1
    if not count:
        return csr_matrix((0, 0), dtype=np.int32)
    columns = torch.from_numpy(np.ascontiguousarray(xyz.T))
    starts, linked = grid_links(columns, torch.from_numpy(superpoints), count, distance / 2)
    return csr_matrix((np.ones(len(linked), np.int32), linked.numpy(), starts.numpy()), shape=(count, count))


def split_at_gaps(sets: csr_matrix, xyz: NDArray[np.float32], superpoints: NDArray[np.int64],
                  distance: float) -> tuple[NDArray[np.int64], csr_matrix]:
    """Cut sets of superpoints (G, S), sorted, where no links hold them together: set (P,) and superpoints (P, S) of the parts.

    Points as in ``superpoint_links``, which says what is linked; the parts are ones.
    """
    starts, members = (torch.from_numpy(one.astype(dtype, copy=False))
                       for one, dtype in ((sets.indptr, np.int64), (sets.indices, np.int32)))
    part = grid_parts(torch.from_numpy(np.ascontiguousarray(xyz.T)), torch.from_numpy(superpoints), starts, members,
                      sets.shape[1], distance / 2).numpy()
    set_of_part = np.zeros(part.max(initial=-1) + 1, np.int64)
    set_of_part[part] = rows_of(sets)
    shape = (len(set_of_part), sets.shape[1])
    return set_of_part, csr_matrix((np.ones(len(part), np.int32), (part, sets.indices)), shape=shape)
