"""Region growing over a graph of affinities, as SAI3D (CVPR 2024) puts superpoints together."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from pc3d.ops._library import define


def grow_regions(starts: Tensor, neighbors: Tensor, affinity: Tensor, sizes: Tensor, threshold: float, hop: float) -> Tensor:
    """Number each of R nodes by the region it grows into.

    From each node without a number, in order, breadth first: a neighbour joins where its affinity to the members it touches,
    and with weight ``hop`` to those that it touches through one of them, weighted by ``sizes`` (R,) float64, reaches the
    threshold. Rows of neighbours are starts (R + 1,) int64 and neighbors (E,) int32, ascending and without the node itself,
    with an affinity (E,) float64 each. Returns (R,) int64, dense, by the first node of a region. Raises ValueError for rows
    that do not fit.
    """
    return _op(starts, neighbors, affinity, sizes, threshold, hop)


def _reference(starts: Tensor, neighbors: Tensor, affinity: Tensor, sizes: Tensor, threshold: float, hop: float) -> Tensor:
    size, number, groups = sizes.tolist(), [-1] * len(sizes), 0
    rows = [dict(zip(neighbors[first:last].tolist(), affinity[first:last].tolist()))
            for first, last in zip(starts[:-1].tolist(), starts[1:].tolist())]
    for seed in range(len(size)):
        if number[seed] >= 0:
            continue
        number[seed] = groups
        queue = deque([seed])
        while queue:
            for other in rows[queue.popleft()]:
                if number[other] < 0 and _score(other, groups, number, rows, size, hop) >= threshold:
                    number[other] = groups
                    queue.append(other)
        groups += 1
    return torch.tensor(number, dtype=torch.int64)


def _score(node: int, group: int, number: list[int], rows: list[dict[int, float]], size: list[float], hop: float) -> float:
    """Affinity of a node to the members of a group that it touches, and to those it touches through one of them."""
    direct = [k for k in rows[node] if number[k] == group]
    total, weight = 0.0, 0.0
    for k in direct:
        total += size[k] * rows[node][k]
        weight += size[k]
    touched = {node, *direct}
    for middle in direct:
        for k in rows[middle]:
            if number[k] == group and k not in touched:
                touched.add(k)
                total += hop * size[k] * (rows[node][middle] * rows[middle][k])
                weight += hop * size[k]
    return total / weight if weight > 0 else 0.0


def _fake(starts: Tensor, neighbors: Tensor, affinity: Tensor, sizes: Tensor, threshold: float, hop: float) -> Tensor:
    return torch.empty_like(sizes, dtype=torch.int64)


_op = define("grow_regions(Tensor starts, Tensor neighbors, Tensor affinity, Tensor sizes, float threshold, float hop)"
             " -> Tensor", reference=_reference, fake=_fake)
