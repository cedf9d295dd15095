"""Graph segmentation of Felzenszwalb and Huttenlocher, IJCV 2004, as ScanNet uses it for superpoints."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_ids, check_rows
from pc3d.ops._library import define
from pc3d.ops._std_sort import std_sort_order


def felzenszwalb(edges: Tensor, weights: Tensor, num_nodes: int, k_threshold: float, min_size: int, *,
                 exact: bool = False) -> Tensor:
    """Segment a graph: join a and b along an edge when w <= thr_a and w <= thr_b, where thr = w + k_threshold / size.

    Edges are taken by rising weight, NaN last; equal weights in the given order or, ``exact``, where ``std::sort`` of
    libstdc++ leaves them, as in ScanNet's segmentator. Then components smaller than min_size join along the same order.
    edges (E, 2) int32 in [0, num_nodes), weights (E,) float32. Returns (num_nodes,) int64 dense ids, numbered by the first
    node that has them. Raises DataError.
    """
    check_rows("felzenszwalb", "edges", edges, 2, torch.int32)
    check_ids("felzenszwalb", "edges", edges, num_nodes)
    if weights.dtype != torch.float32 or weights.shape != edges.shape[:1]:
        raise DataError(explain("weights do not fit the edges", where="felzenszwalb",
                                got=f"{weights.dtype} {tuple(weights.shape)}", expected=f"torch.float32 ({len(edges)},)"))
    return _op(edges, weights, num_nodes, k_threshold, min_size, exact)


def _reference(edges: Tensor, weights: Tensor, num_nodes: int, k_threshold: float, min_size: int, exact: bool) -> Tensor:
    order = _std_sort(weights) if exact else torch.sort(weights, stable=True).indices
    pairs, ordered = edges[order].tolist(), weights[order].tolist()
    link = [-1] * num_nodes  # a root holds minus its size, any other node its parent
    threshold = [float(np.float32(k_threshold))] * num_nodes
    for (a, b), weight in zip(pairs, ordered):
        a, b = _find(link, a), _find(link, b)
        if a != b and weight <= threshold[a] and weight <= threshold[b]:
            root = _join(link, a, b)
            threshold[root] = float(np.float32(weight) + np.float32(k_threshold) / np.float32(-link[root]))
    for a, b in pairs:
        a, b = _find(link, a), _find(link, b)
        if a != b and (-link[a] < min_size or -link[b] < min_size):
            _join(link, a, b)
    label_of_root: dict[int, int] = {}
    labels = [label_of_root.setdefault(_find(link, node), len(label_of_root)) for node in range(num_nodes)]
    return torch.tensor(labels, dtype=torch.int64, device=edges.device)


def _std_sort(weights: Tensor) -> Tensor:
    """Places of the weights after ``std::sort``; NaN, which it must not meet, counts as the largest number."""
    keys = torch.where(weights.isnan(), torch.inf, weights).tolist()
    return torch.tensor(std_sort_order(keys), dtype=torch.int64, device=weights.device)


def _find(link: list[int], node: int) -> int:
    while link[node] >= 0:
        parent = link[node]
        if link[parent] < 0:
            return parent
        link[node] = link[parent]
        node = link[node]
    return node


def _join(link: list[int], a: int, b: int) -> int:
    if link[a] > link[b]:
        a, b = b, a
    link[a] += link[b]
    link[b] = a
    return a


def _fake(edges: Tensor, weights: Tensor, num_nodes: int, k_threshold: float, min_size: int, exact: bool) -> Tensor:
    return edges.new_empty(num_nodes, dtype=torch.int64)


_op = define("felzenszwalb(Tensor edges, Tensor weights, int num_nodes, float k_threshold, int min_size, bool exact) -> Tensor",
             reference=_reference, fake=_fake)
