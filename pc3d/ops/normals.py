"""Normals of mesh vertices and of bare points."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.ops._checks import check_ids, check_rows
from pc3d.ops._library import define


def vertex_normals(xyz: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit normal of every vertex, 0 where no face of it has an area.

    A face with a corner that is not finite has none. xyz (N, 3) float32, faces (F, 3) int64 in [0, N). Returns (N, 3)
    float32. Raises DataError.
    """
    _check_mesh("vertex_normals", xyz, faces)
    return _vertex_normals(xyz, faces)


def estimate_normals(xyz: Tensor, neighbors: Tensor) -> Tensor:
    """Unit direction of least spread (PCA) of each point with its neighbours; the sign makes its largest component positive.

    Where all points coincide it is (0, 0, 1). xyz (N, 3) float32, neighbors (N, k) int64 in [0, N). Returns (N, 3)
    float32. Use orient_normals for signs that agree between neighbours. Raises DataError.
    """
    check_rows("estimate_normals", "xyz", xyz, 3, torch.float32)
    check_rows("estimate_normals", "neighbors", neighbors, neighbors.shape[-1], torch.int64, rows=len(xyz))
    check_ids("estimate_normals", "neighbors", neighbors, len(xyz))
    return _estimate_normals(xyz, neighbors)


def _check_mesh(op: str, xyz: Tensor, faces: Tensor) -> None:
    check_rows(op, "xyz", xyz, 3, torch.float32)
    check_rows(op, "faces", faces, 3, torch.int64)
    check_ids(op, "faces", faces, len(xyz))


def _face_cross(xyz: Tensor, faces: Tensor) -> Tensor:
    p, q, r = xyz[faces[:, 0]], xyz[faces[:, 1]], xyz[faces[:, 2]]
    (ux, uy, uz), (vx, vy, vz) = (q - p).unbind(1), (r - p).unbind(1)
    return torch.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx], dim=1)


def _has_area(norm: Tensor) -> Tensor:
    """Which faces count: not those without area, nor those with a corner that is not finite."""
    return (norm > 0) & norm.isfinite()


def _vertex_normals_reference(xyz: Tensor, faces: Tensor) -> Tensor:
    cross = _face_cross(xyz.double(), faces)
    cross = torch.where(_has_area(cross.norm(dim=1, keepdim=True)), cross, 0.0)
    total = xyz.new_zeros(len(xyz), 3, dtype=torch.float64).index_add(0, faces.flatten(), cross.repeat_interleave(3, 0))
    norm = total.norm(dim=1, keepdim=True)
    return torch.where(norm > 0, total / norm, 0.0).float()


def _estimate_normals_reference(xyz: Tensor, neighbors: Tensor) -> Tensor:
    if not len(xyz):
        return torch.empty_like(xyz)
    steps = xyz.double()[neighbors] - xyz.double()[:, None]
    steps = torch.cat([torch.zeros_like(steps[:, :1]), steps], 1)
    steps = steps - steps.mean(1, keepdim=True)
    normals = torch.linalg.eigh(steps.transpose(1, 2) @ steps).eigenvectors[:, :, 0]
    normals[(steps == 0).flatten(1).all(1)] = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64, device=xyz.device)
    largest = normals.gather(1, normals.abs().argmax(1, keepdim=True))
    return torch.where(largest < 0, -normals, normals).float()


def _fake(xyz: Tensor, other: Tensor) -> Tensor:
    return torch.empty_like(xyz)


_vertex_normals = define("vertex_normals(Tensor xyz, Tensor faces) -> Tensor", reference=_vertex_normals_reference,
                         fake=_fake)
_estimate_normals = define("estimate_normals(Tensor xyz, Tensor neighbors) -> Tensor",
                           reference=_estimate_normals_reference, fake=_fake)
