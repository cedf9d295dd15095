"""Instances numbered 0, 1, 2, ... without those that have no class."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._library import define


def instance_rows(labels: Tensor, instances: Tensor) -> tuple[Tensor, Tensor]:
    """Labels of the instances (I,), by the first point of each, and the row of each point's instance (N,), -1 for none.

    Points with a negative label or id have none; rows follow rising ids. labels and instances (N,) int64. Raises DataError.
    """
    for name, column in (("labels", labels), ("instances", instances)):
        if column.dtype != torch.int64 or column.shape != (len(labels),):
            raise DataError(explain(f"{name} has the wrong type or shape", where="instance_rows",
                                    got=f"{column.dtype} {tuple(column.shape)}", expected=f"torch.int64 ({len(labels)},)"))
    found, row = _op(labels.contiguous(), instances.contiguous())
    return found, row


def _reference(labels: Tensor, instances: Tensor) -> tuple[Tensor, Tensor]:
    known = ((labels >= 0) & (instances >= 0)).nonzero()[:, 0]
    ids, place = instances[known].unique(return_inverse=True)
    first = torch.full_like(ids, len(labels)).scatter_reduce_(0, place, known, "amin")
    return labels[first], torch.full_like(instances, -1).index_copy_(0, known, place)


def _fake(labels: Tensor, instances: Tensor) -> tuple[Tensor, Tensor]:
    return labels.new_empty(torch.library.get_ctx().new_dynamic_size()), torch.empty_like(instances)


_op = define("instance_rows(Tensor labels, Tensor instances) -> (Tensor, Tensor)", reference=_reference, fake=_fake)
