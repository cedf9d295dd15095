"""Every op of pc3d/ops passes torch's own checks: schema, autograd registration, fake tensors, tracing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import pc3d.ops
from pc3d.ops import group_segments
from pc3d.ops._library import REFERENCES

GROUPS = group_segments(torch.arange(20) * 7 % 5, 6)
XYZ = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
FACES = torch.arange(18).reshape(-1, 3)
NEIGHBORS = torch.stack([(torch.arange(20) + step) % 20 for step in (1, 2, 5)], dim=1)
UNITS = torch.nn.functional.normalize(XYZ - 0.5, dim=1)


def rows(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_()


ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "segment_group": lambda: (GROUPS.segment, 6),
    "segment_sum": lambda: (rows(20), *GROUPS),
    "segment_max": lambda: (rows(20, torch.float64), *GROUPS),
    "segment_expand": lambda: (rows(6), *GROUPS),
    "felzenszwalb": lambda: (FACES[:, :2].contiguous(), torch.rand(6), 20, 0.1, 2),
    "knn": lambda: (XYZ, 4),
    "vertex_normals": lambda: (XYZ, FACES),
    "mean_face_normals": lambda: (XYZ, FACES),
    "estimate_normals": lambda: (XYZ, NEIGHBORS),
    "orient_normals": lambda: (XYZ, UNITS, NEIGHBORS, torch.zeros(3)),
    "edge_weights": lambda: (XYZ, UNITS, NEIGHBORS[:, :2].contiguous()),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_torch_accepts_the_op(name: str) -> None:
    torch.library.opcheck(getattr(torch.ops.pc3d, name).default, ARGUMENTS[name]())


def test_every_public_function_of_the_ops_room_is_exported_from_it() -> None:
    assert all(callable(getattr(pc3d.ops, name)) for name in pc3d.ops.__all__)
    assert set(ARGUMENTS) <= set(REFERENCES)
