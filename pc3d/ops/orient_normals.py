"""Signs of normals that agree between neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_ids, check_rows
from pc3d.ops._library import define, on_cpu


def orient_normals(xyz: Tensor, normals: Tensor, neighbors: Tensor, viewpoint: Tensor) -> Tensor:
    """Flip normals so that neighbours agree and every connected part, on the whole, faces the viewpoint.

    Signs travel along a minimum spanning forest of the neighbour graph with weight 1 - |n_a . n_b| (Hoppe et al.,
    SIGGRAPH 1992). xyz and unit normals (N, 3) float32, neighbors (N, k) int64 in [0, N), viewpoint (3,) float32 in
    metres. Returns (N, 3) float32. Raises DataError.
    """
    check_rows("orient_normals", "xyz", xyz, 3, torch.float32)
    check_rows("orient_normals", "normals", normals, 3, torch.float32, rows=len(xyz))
    check_rows("orient_normals", "neighbors", neighbors, neighbors.shape[-1], torch.int64, rows=len(xyz))
    check_ids("orient_normals", "neighbors", neighbors, len(xyz))
    if viewpoint.shape != (3,) or viewpoint.dtype != torch.float32:
        raise DataError(explain("viewpoint must be one point", where="orient_normals",
                                got=f"{viewpoint.dtype} {tuple(viewpoint.shape)}", expected="torch.float32 (3,)"))
    return _op(xyz, normals, neighbors, viewpoint)


def _reference(xyz: Tensor, normals: Tensor, neighbors: Tensor, viewpoint: Tensor) -> Tensor:
    count, k = neighbors.shape
    a, b = torch.arange(count, device=xyz.device).repeat_interleave(k), neighbors.flatten()
    step = normals[a] * normals[b]
    dot = step[:, 0] + step[:, 1] + step[:, 2]
    order = torch.sort(1 - dot.abs(), stable=True).indices
    root, flipped = _spanning_forest(count, a[order].tolist(), b[order].tolist(), (dot[order] < 0).tolist())
    sign = torch.where(torch.tensor(flipped, dtype=torch.bool), -1.0, 1.0).to(xyz.device, torch.float64)
    tree = torch.tensor(root, dtype=torch.int64, device=xyz.device)
    towards = viewpoint.double() - xyz.double()
    distance = towards.norm(dim=1)
    faces = torch.where(distance > 0, (normals.double() * towards).sum(1) / distance, 0.0)
    vote = torch.zeros(count, dtype=torch.float64, device=xyz.device).index_add(0, tree, sign * faces)
    sign = torch.where(vote[tree] < 0, -sign, sign)
    return normals * sign.float()[:, None]


def _spanning_forest(count: int, a: list[int], b: list[int], opposed: list[bool]) -> tuple[list[int], list[bool]]:
    """Root of every point, and whether it is flipped against it; edges (a, b) come by rising weight."""
    root, flipped, members = list(range(count)), [False] * count, [[node] for node in range(count)]
    for p, q, opposite in zip(a, b, opposed):
        keep, drop = root[p], root[q]
        if keep == drop:
            continue
        flip = flipped[p] ^ flipped[q] ^ opposite
        if len(members[keep]) < len(members[drop]):
            keep, drop = drop, keep
        for node in members[drop]:
            root[node], flipped[node] = keep, flipped[node] ^ flip
        members[keep] += members[drop]
        members[drop] = []
    return root, flipped


def _fake(xyz: Tensor, normals: Tensor, neighbors: Tensor, viewpoint: Tensor) -> Tensor:
    return torch.empty_like(xyz)


_op = define("orient_normals(Tensor xyz, Tensor normals, Tensor neighbors, Tensor viewpoint) -> Tensor",
             reference=on_cpu(_reference), fake=_fake)
