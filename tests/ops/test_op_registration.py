"""Every op of pc3d/ops passes torch's own checks: schema, autograd registration, fake tensors, tracing."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
import torch
from torch import Tensor

import pc3d.ops
from pc3d.cli.op_checks import CHECKS
from pc3d.ops import group_segments
from pc3d.ops._library import REFERENCES
from pc3d.ops.sparse_map import kernel_map, pack_keys

for module in iter_modules(pc3d.ops.__path__):  # an op is defined when its module is imported
    import_module(f"pc3d.ops.{module.name}")

GROUPS = group_segments(torch.arange(20) * 7 % 5, 6)
XYZ = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))
FACES = torch.arange(18).reshape(-1, 3)
NEIGHBORS = torch.stack([(torch.arange(20) + step) % 20 for step in (1, 2, 5)], dim=1)
ATTENTION = ((5, 8), (5, 8), (5, 3), (7, 8), (7, 8), (7, 8), (7, 3), (2, 4, 18), (2, 4, 18), (2, 4, 18))
BOXES, GAUSS = torch.cat([XYZ, XYZ.flip(0)], 1), torch.cat([XYZ[:8].T, XYZ[8:16].T])[:, ::2].contiguous()
UNITS = torch.nn.functional.normalize(XYZ - 0.5, dim=1)

IOU = torch.tensor([[0.6, 0.0], [0.3, 0.0], [0.0, 0.1]], dtype=torch.float64)
KEYS = pack_keys(torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(2), torch.arange(3)))[::2].contiguous()
BINS = (torch.arange(3 * 5 * 7).reshape(3, 5, 7) * 5 % 12).short()


def rows(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_()


def planes(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2)).requires_grad_()


def pairs() -> tuple[Tensor, Tensor, Tensor]:
    found = kernel_map(KEYS, KEYS, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=(1, 1, 1))
    return found.in_rows, found.out_rows, found.tap_offsets


def asam() -> tuple[Any, ...]:
    entries = REFERENCES["asam_entries"](torch.arange(20), GROUPS.segment, 20, 6)
    weights = [planes(*shape).double().detach().requires_grad_() for shape in ((2, 2, 3, 3), (2, 2, 3, 3), (2, 4))]
    return rows(20), *entries, *weights, planes(2, 2, 2, 3).double().detach().square(), 20, True, 1e-4


def asam_gradient() -> tuple[Any, ...]:
    tensors, mode = [part.detach() for part in asam()[:-3]], asam()[-3:]
    pooled, _, *saved = REFERENCES["asam_pool"](*tensors, *mode)
    by_row, by_row_offsets, _ = REFERENCES["segment_group"](tensors[1], 21)
    return torch.ones_like(pooled), *tensors, pooled, *saved, by_row, by_row_offsets, *mode


ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "segment_group": lambda: (GROUPS.segment, 6),
    "segment_sum": lambda: (rows(20), *GROUPS),
    "segment_max": lambda: (rows(20, torch.float64), *GROUPS),
    "segment_expand": lambda: (rows(6), *GROUPS),
    "elastic": lambda: (XYZ, planes(3, 3, 4, 2).detach(), 0.5, 2.0),
    "point_features": lambda: ((XYZ * 255).byte(), XYZ, UNITS, torch.zeros(3)),
    "instance_sums": lambda: (torch.arange(20) % 4 - 1, GROUPS.segment, XYZ, 3, 6),
    "voxel_ids": lambda: (XYZ * 4,),
    "column_stats": lambda: (XYZ,),
    "map_points": lambda: (XYZ, torch.ones(3), torch.eye(3)),
    "unit_normals": lambda: ((UNITS * 127).char(),),
    "instance_rows": lambda: (torch.arange(20) % 3 - 1, torch.arange(20) % 4 - 1, 2, True),
    "shared_counts": lambda: (torch.tensor([[5], [0], [63]], dtype=torch.uint8), GROUPS.segment, torch.arange(20) % 3, 6, 3),
    "match_instances": lambda: (IOU, IOU.sum(1), torch.tensor([0, 0, 1]), torch.tensor([0.5, 0.5, 0.1]).double(),
                                torch.tensor([0, 1]), torch.tensor([True, True]), torch.tensor([0.25, 0.5]).double()),
    "mask_boxes": lambda: (planes(4, 20).detach(), XYZ),
    "asam_entries": lambda: (torch.arange(20) % 3, GROUPS.segment, 3, 6),
    "asam_pool": asam,
    "asam_pool_grad": asam_gradient,
    "relation_bias": lambda: (BOXES, GAUSS, planes(3, 8), planes(3)),
    "relation_bias_grad": lambda: (planes(3, 20, 20).detach(), planes(3, 20, 20).detach(), BOXES, GAUSS),
    "relative_attention": lambda: (*(planes(*shape) for shape in ATTENTION), 0.4, None),
    "relative_read": lambda: (planes(2, 5, 12), BINS, False),
    "relative_add": lambda: (planes(2, 5, 7), BINS, 12, True),
    "sparse_kernel_map": lambda: (KEYS, KEYS, [3, 3, 3], [1, 1, 1], [1, 1, 1]),
    "sparse_coarse_keys": lambda: (KEYS, [2, 2, 2], [2, 2, 2], [0, 0, 0], [2, 1, 2]),
    "sparse_conv": lambda: (rows(len(KEYS)), planes(4, 27, 3), *pairs(), len(KEYS)),
    "sparse_conv_weight_grad": lambda: (rows(len(KEYS)), planes(len(KEYS), 4), *pairs()),
    "sparse_conv_tiled": lambda: CHECKS["sparse_conv_tiled"](torch.Generator().manual_seed(0)),
    "sparse_conv_tiled_weight_grad": lambda: CHECKS["sparse_conv_tiled_weight_grad"](torch.Generator().manual_seed(0)),
    "felzenszwalb": lambda: (FACES[:, :2].int().contiguous(), torch.rand(6), 20, 0.1, 2, True),
    "sparse_conv_norm_relu": lambda: CHECKS["sparse_conv_norm_relu"](torch.Generator().manual_seed(0)),
    "knn": lambda: (XYZ, 4),
    "lift_vote": lambda: CHECKS["lift_vote"](torch.Generator().manual_seed(0)),
    "mask_testimony": lambda: CHECKS["mask_testimony"](torch.Generator().manual_seed(0)),
    "mask_clusters": lambda: CHECKS["mask_clusters"](torch.Generator().manual_seed(0)),
    "merge_views": lambda: CHECKS["merge_views"](torch.Generator().manual_seed(0)),
    "piece_sums": lambda: CHECKS["piece_sums"](torch.Generator().manual_seed(0)),
    "grid_links": lambda: CHECKS["grid_links"](torch.Generator().manual_seed(0)),
    "grid_parts": lambda: CHECKS["grid_parts"](torch.Generator().manual_seed(0)),
    "frame_rows": lambda: CHECKS["frame_rows"](torch.Generator().manual_seed(0)),
    "scan_layout": lambda: CHECKS["scan_layout"](torch.Generator().manual_seed(0)),
    "row_dots": lambda: CHECKS["row_dots"](torch.Generator().manual_seed(0)),
    "grow_regions": lambda: CHECKS["grow_regions"](torch.Generator().manual_seed(0)),
    "vertex_normals": lambda: (XYZ, FACES),
    "mesh_graph": lambda: (XYZ, FACES),
    "estimate_normals": lambda: (XYZ, NEIGHBORS),
    "orient_normals": lambda: (XYZ, UNITS, NEIGHBORS, torch.zeros(3)),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_torch_accepts_the_op(name: str) -> None:
    torch.library.opcheck(getattr(torch.ops.pc3d, name).default, ARGUMENTS[name]())


def test_every_public_function_of_the_ops_room_is_exported_from_it() -> None:
    assert all(callable(getattr(pc3d.ops, name)) for name in pc3d.ops.__all__)


def test_no_op_goes_unchecked() -> None:
    assert set(ARGUMENTS) == set(REFERENCES)
