"""The graph that superpoints of a mesh are segmented on."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.ops._checks import check_ids, check_rows
from pc3d.ops._library import define, on_cpu


def mesh_graph(xyz: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Edges of a mesh, weighed by the turn of its surface, as in ScanNet's segmentator.

    n of a vertex is the running mean of the unit normals of its faces, n <- f / (c + 1) + (1 - 1 / (c + 1)) n for its c-th
    face f, in float32, faces in order, not renormalised; faces without area are left out. Edges (1-2, 1-3, 3-2) of every
    face, w = 1 - n_a . n_b, squared where convex, n_b . (p_b - p_a) > 0.
    xyz (N, 3) float32, faces (F, 3) int64 in [0, N). Returns edges (3F, 2) int32 and weights (3F,) float32. Raises DataError.
    """
    check_rows("mesh_graph", "xyz", xyz, 3, torch.float32)
    check_rows("mesh_graph", "faces", faces, 3, torch.int64)
    check_ids("mesh_graph", "faces", faces, len(xyz))
    return _op(xyz, faces)


def _reference(xyz: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    edges = faces[:, [0, 1, 0, 2, 2, 1]].reshape(-1, 2)
    return edges.int(), edge_weights(xyz, mean_face_normals(xyz, faces), edges)


def mean_face_normals(xyz: Tensor, faces: Tensor) -> Tensor:
    """Running mean (N, 3) of the unit normals of each vertex's faces."""
    p, q, r = xyz[faces[:, 0]], xyz[faces[:, 1]], xyz[faces[:, 2]]
    (ux, uy, uz), (vx, vy, vz) = (q - p).unbind(1), (r - p).unbind(1)
    cross = torch.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx], dim=1)
    norm = _norm(cross)
    keep = (norm > 0) & norm.isfinite()
    corners, unit = faces[keep].flatten(), (cross[keep] / norm[keep, None]).repeat_interleave(3, 0)
    mean = torch.zeros_like(xyz)
    for nth, rows in enumerate(_by_turn(corners)):  # rows hold the nth face of every vertex that has so many
        share = 1.0 / torch.tensor(nth + 1.0)
        mean[corners[rows]] = share * unit[rows] + (1.0 - share) * mean[corners[rows]]
    return mean


def edge_weights(xyz: Tensor, normals: Tensor, edges: Tensor) -> Tensor:
    """Weights (E,) of edges (E, 2) from the normals (N, 3) at their ends."""
    a, b = edges[:, 0], edges[:, 1]
    step = xyz[b] - xyz[a]
    weight = 1.0 - _dot(normals[a], normals[b])
    return torch.where(_dot(normals[b], step / _norm(step)[:, None]) > 0, weight * weight, weight)


def _norm(rows: Tensor) -> Tensor:
    """Length of each row; superpoints hang on its last bit, and torch's own float32 sqrt (MKL's) is not always the nearest."""
    return _dot(rows, rows).double().sqrt().float()


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]


def _by_turn(ids: Tensor) -> list[Tensor]:
    """Rows of the first, second, ... appearance of every id."""
    if not ids.numel():
        return []
    order = ids.argsort(stable=True)
    grouped = ids[order]
    position = torch.arange(len(ids), device=ids.device)
    turn = position - torch.searchsorted(grouped, grouped)
    by_turn = turn.argsort(stable=True)
    return list(order[by_turn].split(torch.bincount(turn).tolist()))


def _fake(xyz: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    return faces.new_empty(3 * len(faces), 2, dtype=torch.int32), xyz.new_empty(3 * len(faces))


_op = define("mesh_graph(Tensor xyz, Tensor faces) -> (Tensor, Tensor)", reference=on_cpu(_reference), fake=_fake)
