"""Weights of graph edges from the normals at their ends."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.ops._checks import check_ids, check_rows
from pc3d.ops._library import define


def edge_weights(xyz: Tensor, normals: Tensor, edges: Tensor) -> Tensor:
    """Weigh edges by the turn of the surface: w = 1 - n_a . n_b, squared where convex, n_b . (p_b - p_a) > 0.

    xyz and normals (N, 3) float32, edges (E, 2) int64 in [0, N). Returns (E,) float32. Raises DataError.
    """
    check_rows("edge_weights", "xyz", xyz, 3, torch.float32)
    check_rows("edge_weights", "normals", normals, 3, torch.float32, rows=len(xyz))
    check_rows("edge_weights", "edges", edges, 2, torch.int64)
    check_ids("edge_weights", "edges", edges, len(xyz))
    return _op(xyz, normals, edges)


def _reference(xyz: Tensor, normals: Tensor, edges: Tensor) -> Tensor:
    a, b = edges[:, 0], edges[:, 1]
    step = xyz[b] - xyz[a]
    direction = step / (step[:, :1].square() + step[:, 1:2].square() + step[:, 2:].square()).sqrt()
    weight = 1.0 - _dot(normals[a], normals[b])
    return torch.where(_dot(normals[b], direction) > 0, weight * weight, weight)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _fake(xyz: Tensor, normals: Tensor, edges: Tensor) -> Tensor:
    return xyz.new_empty(len(edges))


_op = define("edge_weights(Tensor xyz, Tensor normals, Tensor edges) -> Tensor", reference=_reference, fake=_fake)
