"""The engine "spconv": its CUDA kernels under the names, parameters and state dict of pc3d.nn.sparse. Imported on request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import spconv.pytorch as spconv
import torch.nn.functional as F
from spconv.core import ConvAlgo

from pc3d.errors import ConfigError, explain
from pc3d.nn.sparse import Engine, SparseTensor, same_padding
from pc3d.ops.sparse_map import check_kernel

Size = int | Sequence[int]
MASK_BITS = 32


def build_engine() -> Engine:
    """The spconv engine."""
    return Engine(to_spconv, SubMConv3d, SparseConv3d, SparseInverseConv3d)


def to_spconv(x: SparseTensor) -> Any:
    """The same voxels and features as a spconv tensor."""
    return spconv.SparseConvTensor(x.features, x.coords, list(x.spatial_shape), x.batch_size)


class SubMConv3d(spconv.SubMConv3d):
    """See pc3d.nn.sparse.SubMConv3d. Odd kernels only: spconv centres even ones elsewhere."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, *, bias: bool = False) -> None:
        kernel = check_kernel("kernel_size", kernel_size, low=1)
        if not all(k % 2 for k in kernel):
            raise ConfigError(explain("the engine spconv has no submanifold convolution of this kernel", where="kernel_size",
                                      got=kernel, expected="odd sizes", do="Use the engine 'native'"))
        super().__init__(in_channels, out_channels, kernel, padding=same_padding(kernel), bias=bias)

    def forward(self, x: Any) -> Any:
        if tuple(self.kernel_size) == (1, 1, 1):
            # spconv 2.x reads a 1x1 weight [out, in] as [in, out] without transposing it.
            return x.replace_feature(F.linear(x.features, self.weight.flatten(1), self.bias))
        # Tensors of one level share their indices, and so their kernel map.
        self.indice_key = f"submanifold {tuple(self.kernel_size)} {x.indices.data_ptr()}"
        return super().forward(_on_this_device(self, x))


class SparseConv3d(spconv.SparseConv3d):
    """See pc3d.nn.sparse.SparseConv3d."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, *, stride: Size, key: str,
                 padding: Size | None = None, bias: bool = False) -> None:
        kernel, steps = check_kernel("kernel_size", kernel_size, low=1), check_kernel("stride", stride, low=1)
        margin = same_padding(kernel) if padding is None else check_kernel("padding", padding, low=0)
        super().__init__(in_channels, out_channels, kernel, stride=steps, padding=margin, bias=bias, indice_key=key)

    def forward(self, x: Any) -> Any:
        return super().forward(_on_this_device(self, x))


class SparseInverseConv3d(spconv.SparseInverseConv3d):
    """See pc3d.nn.sparse.SparseInverseConv3d."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, *, key: str, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, check_kernel("kernel_size", kernel_size, low=1), indice_key=key, bias=bias)

    def forward(self, x: Any) -> Any:
        return super().forward(_on_this_device(self, x))


def _on_this_device(module: Any, x: Any) -> Any:
    """Choose the algorithm: on a CPU every module must use Native, and so must kernels of more taps than a mask has bits."""
    masked = x.features.is_cuda and math.prod(module.kernel_size) <= MASK_BITS
    module.algo = ConvAlgo.MaskImplicitGemm if masked else ConvAlgo.Native
    return x
