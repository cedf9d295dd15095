"""Which superpoints lie near each other, and what hangs together by that."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, triu
from scipy.sparse.csgraph import connected_components

from pc3d.structures.sparse import find, rows_of


def superpoint_links(xyz: NDArray[np.float32], superpoints: NDArray[np.int64], distance: float) -> csr_matrix:
    """Superpoints (S, S) that come near each other: surely within ``distance / 2``, never beyond 1.8 ``distance``.

    ``xyz`` (N, 3) metres, ``superpoints`` (N,) dense. Two are linked by points in the same or touching cells of a grid.
    """
    count = int(superpoints.max(initial=-1)) + 1
    if not count:
        return csr_matrix((0, 0), dtype=np.int32)
    columns = np.ascontiguousarray(xyz.T)
    x, y, z = ((columns - columns.min(axis=1, keepdims=True)) / (distance / 2)).astype(np.int64) + 1
    height, width = int(z.max()) + 2, int(y.max()) + 2
    cell = (x * width + y) * height + z
    change = np.flatnonzero(np.diff(cell, prepend=-1) | np.diff(superpoints, prepend=-1))    # neighbours mostly share both
    keys, row = np.unique(cell[change], return_inverse=True)
    pattern = np.unique(row.reshape(-1) * count + superpoints[change])
    holds = csr_matrix((np.ones(len(pattern), np.int32), (pattern // count, pattern % count)), shape=(len(keys), count))
    steps = np.array([(dx * width + dy) * height + dz for dx, dy, dz in product((-1, 0, 1), repeat=3)])[:, None]
    place = np.searchsorted(keys, keys + steps).clip(max=len(keys) - 1)
    step, here = np.nonzero(keys[place] == keys + steps)
    touch = csr_matrix((np.ones(len(step), np.int32), (here, place[step, here])), shape=(len(keys),) * 2)
    links = (holds.T @ (touch @ holds)).tocsr()
    links.sort_indices()
    return links


def split_by_links(extent: csr_matrix, links: csr_matrix) -> tuple[NDArray[np.int64], csr_matrix]:
    """Cut sets of superpoints (G, S) where they do not hang together: set (P,) and superpoints (P, S) of the parts, as ones."""
    extent.sort_indices()
    group, entry, links = rows_of(extent), np.arange(extent.nnz), triu(links, 1, format="csr")
    fan = np.diff(links.indptr)[extent.indices]                     # of each entry, its superpoint's later neighbours
    first, before = np.repeat(entry, fan), np.cumsum(fan) - fan
    neighbor = links.indices[np.arange(fan.sum()) + np.repeat(links.indptr[extent.indices] - before, fan)]
    second = find(extent, group[first], neighbor)
    graph = csr_matrix((np.ones((second >= 0).sum(), bool), (first[second >= 0], second[second >= 0])), shape=(len(entry),) * 2)
    number, part = connected_components(graph, directed=False)
    group_of_part = np.zeros(number, np.int64)
    group_of_part[part] = group
    return group_of_part, csr_matrix((np.ones(len(entry), np.int32), (part, extent.indices)), shape=(number, extent.shape[1]))
