"""Which superpoints lie near each other, and what hangs together by that."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pc3d.ops import grid_links
from pc3d.structures.sparse import find, keep, rows_of


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


def split_by_links(extent: csr_matrix, links: csr_matrix) -> tuple[NDArray[np.int64], csr_matrix]:
    """Cut sets of superpoints (G, S) where they do not hang together: set (P,) and superpoints (P, S) of the parts, as ones."""
    extent.sort_indices()
    group, entry = rows_of(extent), np.arange(extent.nnz)
    later = keep(links, links.indices > rows_of(links))
    fan = np.diff(later.indptr)[extent.indices]                     # of each entry, its superpoint's later neighbours
    first, before = np.repeat(entry, fan), np.cumsum(fan) - fan
    neighbor = later.indices[np.arange(fan.sum()) + np.repeat(later.indptr[extent.indices] - before, fan)]
    second = find(extent, group[first], neighbor)
    graph = csr_matrix((np.ones((second >= 0).sum(), bool), (first[second >= 0], second[second >= 0])), shape=(len(entry),) * 2)
    number, part = connected_components(graph, directed=False)
    group_of_part = np.zeros(number, np.int64)
    group_of_part[part] = group
    return group_of_part, csr_matrix((np.ones(len(entry), np.int32), (part, extent.indices)), shape=(number, extent.shape[1]))
