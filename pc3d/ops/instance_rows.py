"""Instances numbered 0, 1, 2, ... without those that have no class."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._library import define, on_cpu


def instance_rows(labels: Tensor, instances: Tensor, num_labels: int, *,
                  by_label: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Label and points of each instance, both (I,), and the row of each point's instance (N,), -1 for none; all int64.

    An instance is an id, with the label of its first point; ``by_label`` one id with two labels is two. Rows follow rising
    ids, or (label, id). Points with an id below 0 or a label outside [0, num_labels) have none. labels and instances (N,)
    int64. Raises DataError.
    """
    for name, column in (("labels", labels), ("instances", instances)):
        if column.dtype != torch.int64 or column.shape != (len(labels),):
            raise DataError(explain(f"{name} has the wrong type or shape", where="instance_rows",
                                    got=f"{column.dtype} {tuple(column.shape)}", expected=f"torch.int64 ({len(labels)},)"))
    found, sizes, rows = _op(labels.contiguous(), instances.contiguous(), num_labels, by_label)
    return found, sizes, rows


def _reference(labels: Tensor, instances: Tensor, num_labels: int, by_label: bool) -> tuple[Tensor, Tensor, Tensor]:
    known = ((labels >= 0) & (labels < num_labels) & (instances >= 0)).nonzero()[:, 0]
    keys = torch.stack([labels[known] if by_label else torch.zeros_like(known), instances[known]], dim=1)
    distinct, place, sizes = keys.unique(dim=0, return_inverse=True, return_counts=True)
    first = torch.full((len(distinct),), len(labels)).scatter_reduce_(0, place, known, "amin")
    return labels[first], sizes, torch.full_like(instances, -1).index_copy_(0, known, place)


def _fake(labels: Tensor, instances: Tensor, num_labels: int, by_label: bool) -> tuple[Tensor, Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return labels.new_empty(count), labels.new_empty(count), torch.empty_like(instances)


_op = define("instance_rows(Tensor labels, Tensor instances, int num_labels, bool by_label) -> (Tensor, Tensor, Tensor)",
             reference=on_cpu(_reference), fake=_fake)
