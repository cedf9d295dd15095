"""Which superpoints lie near each other, and what hangs together by that."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pc3d.structures.sparse import find, rows_of


def superpoint_links(xyz: NDArray[np.float32], superpoints: NDArray[np.int64], distance: float) -> csr_matrix:
    """Superpoints (S, S) that come near each other: surely within ``distance / 2``, never beyond 1.8 ``distance``.

    ``xyz`` (N, 3) metres, ``superpoints`` (N,) dense. Two are linked by points in the same or touching cells of a grid.
    """
    count = int(superpoints.max(initial=-1)) + 1
    if not count:
        return csr_matrix((0, 0), dtype=np.int32)
    cell = np.floor((xyz - xyz.min(axis=0)) / (distance / 2)).astype(np.int64) + 1
    height = int(cell[:, 2].max()) + 2
    width = int(cell[:, 1].max()) + 2
    keys, row = np.unique((cell[:, 0] * width + cell[:, 1]) * height + cell[:, 2], return_inverse=True)
    pattern = np.unique(row.reshape(-1) * count + superpoints)
    holds = csr_matrix((np.ones(len(pattern), np.int32), (pattern // count, pattern % count)), shape=(len(keys), count))
    links = holds.T @ holds
    for step in ((dx * width + dy) * height + dz for dx in (0, 1) for dy in (-1, 0, 1) for dz in (-1, 0, 1)):
        if step <= 0:
            continue                                # its opposite is taken
        place = np.minimum(np.searchsorted(keys, keys + step), len(keys) - 1)
        meets = keys[place] == keys + step
        links = links + holds[meets].T @ holds[place[meets]]
    links = (links + links.T).tocsr()
    links.sort_indices()
    return links


def split_by_links(extent: csr_matrix, links: csr_matrix) -> tuple[NDArray[np.int64], csr_matrix]:
    """Cut sets of superpoints (G, S) where they do not hang together: set (P,) and superpoints (P, S) of the parts, as ones."""
    extent.sort_indices()
    group, entry = rows_of(extent), np.arange(extent.nnz)
    fan = np.diff(links.indptr)[extent.indices]                     # of each entry, its superpoint's neighbours in its group
    first, place = np.repeat(entry, fan), np.arange(fan.sum()) - np.repeat(np.cumsum(fan) - fan, fan)
    neighbor = links.indices[links.indptr[extent.indices][first] + place]
    first, neighbor = (values[neighbor > extent.indices[first]] for values in (first, neighbor))
    second = find(extent, group[first], neighbor)
    graph = csr_matrix((np.ones((second >= 0).sum(), bool), (first[second >= 0], second[second >= 0])), shape=(len(entry),) * 2)
    number, part = connected_components(graph, directed=False)
    group_of_part = np.zeros(number, np.int64)
    group_of_part[part] = group
    return group_of_part, csr_matrix((np.ones(len(entry), np.int32), (part, extent.indices)), shape=(number, extent.shape[1]))
