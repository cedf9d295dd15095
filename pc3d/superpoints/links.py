"""Which superpoints lie near each other, and what hangs together by that."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pc3d.structures.sparse import find, keep, rows_of


def superpoint_links(xyz: NDArray[np.float32], superpoints: NDArray[np.int64], distance: float) -> csr_matrix:
    """Superpoints (S, S) that come near each other: surely within ``distance / 2``, never beyond 1.8 ``distance``.

    ``xyz`` (N, 3) metres, ``superpoints`` (N,) dense. Two are linked by points in the same or touching cells of a grid.
    """
    count = int(superpoints.max(initial=-1)) + 1
    if not count:
        return csr_matrix((0, 0), dtype=np.int32)
    x, y, z = (((column - column.min()) / (distance / 2)).astype(np.int64) + 1 for column in np.ascontiguousarray(xyz.T))
    height, width = int(z.max()) + 2, int(y.max()) + 2
    pairs = ((x * width + y) * height + z) * count + superpoints        # of a cell and a superpoint
    pairs = np.sort(pairs[_changes(pairs)])                             # neighbours mostly share both
    cell, superpoint = np.divmod(pairs[_changes(pairs)], count)
    first = np.flatnonzero(_changes(cell))
    keys = cell[first]
    holds = csr_matrix((np.ones(len(cell), np.int32), superpoint, np.append(first, len(cell))), shape=(len(keys), count))
    steps = np.array([(dx * width + dy) * height + dz for dx, dy, dz in product((-1, 0, 1), repeat=3)])[:, None]
    place = np.searchsorted(keys, keys + steps).clip(max=len(keys) - 1)
    step, here = np.nonzero(keys[place] == keys + steps)
    touch = csr_matrix((np.ones(len(step), np.int32), (here, place[step, here])), shape=(len(keys),) * 2)
    return (holds.T.tocsr() @ (touch @ holds)).T.tocsr()        # the same the other way round, but its columns ascend


def _changes(values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where a value is not the one before."""
    return np.append(True, values[1:] != values[:-1])


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
