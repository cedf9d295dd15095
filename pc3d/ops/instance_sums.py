"""The one histogram under training targets."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_ids, check_rows
from pc3d.ops._library import define, on_cpu


def instance_sums(instance: Tensor, superpoint: Tensor, xyz: Tensor, num_instances: int,
                  num_superpoints: int) -> tuple[Tensor, Tensor]:
    """Count the points of each instance in each superpoint, and add up the positions of each instance.

    instance (N,) int64 in [-1, I), superpoint (N,) int64 in [0, S), xyz (N, 3) float32. Returns counts (I + 1, S) int64, whose
    last row counts the points of no instance (-1), and sums (I, 3) float64. Raises DataError.
    """
    check_rows("instance_sums", "xyz", xyz, 3, torch.float32)
    for name, ids in (("instance", instance), ("superpoint", superpoint)):
        if ids.dtype != torch.int64 or ids.shape != xyz.shape[:1]:
            raise DataError(explain(f"{name} has the wrong type or shape", where="instance_sums",
                                    got=f"{ids.dtype} {tuple(ids.shape)}", expected=f"torch.int64 ({len(xyz)},)"))
    check_ids("instance_sums", "instance", instance, num_instances, low=-1)
    check_ids("instance_sums", "superpoint", superpoint, num_superpoints)
    counts, sums = _op(instance.contiguous(), superpoint.contiguous(), xyz.contiguous(), num_instances, num_superpoints)
    return counts, sums


def _reference(instance: Tensor, superpoint: Tensor, xyz: Tensor, num_instances: int,
               num_superpoints: int) -> tuple[Tensor, Tensor]:
    row = torch.where(instance < 0, num_instances, instance)
    cells = row * num_superpoints + superpoint
    counts = torch.zeros((num_instances + 1) * num_superpoints, dtype=torch.int64).index_add_(0, cells, torch.ones_like(cells))
    sums = torch.zeros(num_instances + 1, 3, dtype=torch.float64).index_add_(0, row, xyz.double())
    return counts.view(num_instances + 1, num_superpoints), sums[:-1].clone()


def _fake(instance: Tensor, superpoint: Tensor, xyz: Tensor, num_instances: int,
          num_superpoints: int) -> tuple[Tensor, Tensor]:
    return (instance.new_empty(num_instances + 1, num_superpoints),
            xyz.new_empty(num_instances, 3, dtype=torch.float64))


_op = define("instance_sums(Tensor instance, Tensor superpoint, Tensor xyz, int num_instances, int num_superpoints) -> "
             "(Tensor, Tensor)", reference=on_cpu(_reference), fake=_fake)
