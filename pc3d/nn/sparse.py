"""Sparse tensors and convolutions: features that live on the active voxels of a grid only.

A convolution here equals the dense one on a zero-filled grid, read at the active voxels. Weights are [out, kx, ky, kz, in].
``engine("native")`` is this module; ``engine("spconv")`` the same modules, with the same state dict, run by spconv.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pc3d.errors import ConfigError, DataError, explain, require_package
from pc3d.ops.sparse_conv import sparse_conv
from pc3d.ops.sparse_map import (
    MAX_EXTENT,
    MAX_SCANS,
    KernelMap,
    Triple,
    check_kernel,
    coarse_keys,
    conv_shape,
    kernel_map,
    pack_keys,
    unpack_keys,
)

Size = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class Sites:
    """The V active voxels of one level, and the kernel maps between them. Maps are made on first use and kept."""

    coords: Tensor            # (V, 4) int32 scan, x, y, z, in the rows' own order
    keys: Tensor              # (V,) int64, sorted
    order: Tensor | None      # (V,) int64 sorted row -> own row; None when the rows are sorted already
    spatial_shape: Triple
    maps: dict[Triple, KernelMap] = field(default_factory=dict)

    def submanifold_map(self, kernel_size: Triple) -> KernelMap:
        """Map of a submanifold convolution: from these sites to these sites."""
        if kernel_size not in self.maps:
            padding = same_padding(kernel_size)
            self.maps[kernel_size] = kernel_map(
                self.keys, self.keys, kernel_size=kernel_size, stride=(1, 1, 1), padding=padding)
        return self.maps[kernel_size]

    def into_sorted(self, features: Tensor) -> Tensor:
        """Rows in the order of the keys, which kernel maps speak of."""
        return features if self.order is None else permute_rows(features, self.order, inverse_permutation(self.order))

    def from_sorted(self, features: Tensor) -> Tensor:
        """Rows back in the sites' own order."""
        return features if self.order is None else permute_rows(features, inverse_permutation(self.order), self.order)


@dataclass(frozen=True, eq=False)
class Downsampling:
    """What a strided convolution leaves in the cache for its inverse."""

    fine: Sites
    coarse: Sites
    pairs: KernelMap
    geometry: tuple[Triple, Triple, Triple]   # kernel size, stride, padding


class SparseTensor:
    """Features on V active voxels of B scans' grids.

    Args: features (V, C) float; coords (V, 4) int32 scan, x, y, z, unique, in any order; spatial_shape, voxels per axis;
    batch_size B. Tensors made from one another share ``cache``. Raises DataError that names the argument at fault.
    """

    def __init__(self, features: Tensor, coords: Tensor, spatial_shape: Sequence[int], batch_size: int) -> None:
        shape = _check_shape(spatial_shape)
        _check_rows(features, coords)
        _check_range(coords, shape, batch_size)
        self.features = features
        self.sites = _sites(coords, shape)
        self.batch_size = batch_size
        self.cache: dict[str, Downsampling] = {}

    @property
    def coords(self) -> Tensor:
        """(V, 4) int32 scan, x, y, z of each row."""
        return self.sites.coords

    @property
    def spatial_shape(self) -> Triple:
        """Size of the grid in voxels along x, y, z."""
        return self.sites.spatial_shape

    def replace_feature(self, features: Tensor) -> SparseTensor:
        """The same voxels with other (V, C) features."""
        _check_count(features, self.coords)
        return self.moved(features, self.sites)

    def in_key_order(self) -> SparseTensor:
        """The same voxels with rows sorted by (scan, x, y, z): neighbours lie close in memory, twice as fast to convolve.

        ``sites.from_sorted`` of the original brings rows back.
        """
        if self.sites.order is None:
            return self
        sites = Sites(self.coords[self.sites.order], self.sites.keys, None, self.spatial_shape)
        return self.moved(self.sites.into_sorted(self.features), sites)

    def moved(self, features: Tensor, sites: Sites) -> SparseTensor:
        """A tensor on other sites of the same batch, sharing the cache."""
        tensor = object.__new__(SparseTensor)
        tensor.features, tensor.sites, tensor.batch_size, tensor.cache = features, sites, self.batch_size, self.cache
        return tensor


class _SparseConvolution(nn.Module):
    """Weight [out, kx, ky, kz, in] and bias, initialised as torch does for dense convolutions."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, *, bias: bool = False) -> None:
        super().__init__()
        if min(in_channels, out_channels) < 1:
            raise DataError(explain("a convolution needs channels", where="in_channels, out_channels",
                                    got=(in_channels, out_channels), expected="at least 1"))
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = check_kernel("kernel_size", kernel_size, low=1)
        self.weight = nn.Parameter(torch.empty(out_channels, *self.kernel_size, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw U(-b, b) with b = 1 / sqrt(fan in): kaiming_uniform(a=sqrt(5))."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def convolve(self, features: Tensor, pairs: KernelMap) -> Tensor:
        self.check_channels(features)
        y = sparse_conv(features, self.weight.flatten(1, 3).to(features.dtype), pairs)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def check_channels(self, features: Tensor) -> None:
        if features.shape[1] != self.in_channels:
            raise DataError(explain("wrong number of channels", where="features", got=features.shape[1],
                                    expected=self.in_channels))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, bias={self.bias is not None}"


class SubMConv3d(_SparseConvolution):
    """Submanifold convolution: outputs are the input's voxels, padding is floor((k-1)/2); k = 1 is a linear layer per voxel."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        if self.kernel_size == (1, 1, 1):
            self.check_channels(x.features)
            bias = None if self.bias is None else self.bias.to(x.features.dtype)
            return x.replace_feature(F.linear(x.features, self.weight.flatten(1).to(x.features.dtype), bias))
        y = self.convolve(x.sites.into_sorted(x.features), x.sites.submanifold_map(self.kernel_size))
        return x.replace_feature(x.sites.from_sorted(y))


class SparseConv3d(_SparseConvolution):
    """Strided convolution: outputs are all voxels a tap reaches, ``fine = stride * coarse + tap - padding``.

    Leaves its sites under ``key`` for a SparseInverseConv3d. Padding defaults to floor((k-1)/2). At k2 s2 an odd last
    plane has no output, as in spconv, because released weights were trained so.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, *, stride: Size, key: str,
                 padding: Size | None = None, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)
        self.stride = check_kernel("stride", stride, low=1)
        same = same_padding(self.kernel_size)
        x, y, z = self.kernel_size
        self.padding = same if padding is None else check_kernel("padding", padding, low=0, high=(x - 1, y - 1, z - 1))
        self.key = key

    def forward(self, x: SparseTensor) -> SparseTensor:
        down = self.downsampling(x)
        y = self.convolve(x.sites.into_sorted(x.features), down.pairs)
        return x.moved(y, down.coarse)

    def downsampling(self, x: SparseTensor) -> Downsampling:
        """The coarse sites and the map to them, from the cache when this batch has been there."""
        geometry = (self.kernel_size, self.stride, self.padding)
        cached = x.cache.get(self.key)
        if cached is None or cached.fine is not x.sites or cached.geometry != geometry:
            cached = x.cache[self.key] = _downsample(x.sites, *geometry)
        return cached


class SparseInverseConv3d(_SparseConvolution):
    """Transposed convolution back to the voxels that the SparseConv3d of the same ``key`` came from; 0 where no parent is."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, *, key: str, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias)
        self.key = key

    def forward(self, x: SparseTensor) -> SparseTensor:
        down = self.forward_pass(x)
        y = self.convolve(x.features, down.pairs.swapped())
        return x.moved(down.fine.from_sorted(y), down.fine)

    def forward_pass(self, x: SparseTensor) -> Downsampling:
        """The downsampling to undo; raise DataError when there was none or it does not fit."""
        down = x.cache.get(self.key)
        if down is None:
            raise DataError(explain("no SparseConv3d with this key has run on this tensor", where="key", got=repr(self.key),
                                    expected=f"one of {sorted(x.cache)}"))
        if down.coarse is not x.sites or down.geometry[0] != self.kernel_size:
            raise DataError(explain("the SparseConv3d of this key made other voxels or has another kernel", where="key",
                                    got=f"{self.key!r}, kernel {self.kernel_size}", expected=f"kernel {down.geometry[0]}"))
        return down


def same_padding(kernel_size: Triple) -> Triple:
    """floor((k - 1) / 2) per axis."""
    x, y, z = ((k - 1) // 2 for k in kernel_size)
    return x, y, z


class _PermuteRows(torch.autograd.Function):
    """Gather rows; the gradient gathers back, where indexing's own would add row by row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return permute_rows(grad, inverse, order), None, None


def permute_rows(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """``x[order]`` for a permutation whose inverse is known."""
    result: Tensor = _PermuteRows.apply(x, order, inverse)
    return result


def inverse_permutation(order: Tensor) -> Tensor:
    """The permutation that undoes ``order``."""
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    return inverse


def _downsample(fine: Sites, kernel_size: Triple, stride: Triple, padding: Triple) -> Downsampling:
    shape = conv_shape(fine.spatial_shape, kernel_size=kernel_size, stride=stride, padding=padding)
    keys = coarse_keys(fine.keys, kernel_size=kernel_size, stride=stride, padding=padding, shape=shape)
    pairs = kernel_map(keys, fine.keys, kernel_size=kernel_size, stride=stride, padding=padding)
    return Downsampling(fine, Sites(unpack_keys(keys), keys, None, shape), pairs, (kernel_size, stride, padding))


def _sites(coords: Tensor, shape: Triple) -> Sites:
    keys = pack_keys(coords)
    steps = keys.diff()
    if bool((steps > 0).all()):
        return Sites(coords, keys, None, shape)
    keys, order = keys.sort()
    twice = (keys.diff() == 0).nonzero()
    if len(twice):
        first, second = sorted(order[int(twice[0]):][:2].tolist())
        rows = f"{coords[first].tolist()} in rows {first} and {second}"
        raise DataError(explain("a voxel is given twice", where="coords", got=rows, expected="unique rows",
                                do="Merge points into voxels first"))
    return Sites(coords, keys, order, shape)


def _check_shape(spatial_shape: Sequence[int]) -> Triple:
    shape = tuple(int(n) for n in spatial_shape)
    if len(shape) != 3 or not all(1 <= n <= MAX_EXTENT for n in shape):
        raise DataError(explain("not a valid grid", where="spatial_shape", got=shape, expected=f"3 sizes, 1 to {MAX_EXTENT}",
                                do="Use larger voxels or cut the scan into tiles"))
    return shape[0], shape[1], shape[2]


def _check_rows(features: Tensor, coords: Tensor) -> None:
    if features.ndim != 2 or not features.is_floating_point():
        raise DataError(explain("not a float matrix", where="features", got=f"{tuple(features.shape)} {features.dtype}",
                                expected="(V, C) float"))
    if coords.ndim != 2 or coords.shape[1] != 4 or coords.dtype != torch.int32:
        raise DataError(explain("not voxel coordinates", where="coords", got=f"{tuple(coords.shape)} {coords.dtype}",
                                expected="(V, 4) int32: scan, x, y, z"))
    _check_count(features, coords)
    if features.device != coords.device:
        raise DataError(explain("features and coords are on different devices", where="coords", got=coords.device,
                                expected=features.device))


def _check_count(features: Tensor, coords: Tensor) -> None:
    if len(features) != len(coords):
        raise DataError(explain("one row per voxel is needed", where="features", got=len(features), expected=len(coords)))


def _check_range(coords: Tensor, shape: Triple, batch_size: int) -> None:
    if not 0 <= batch_size <= MAX_SCANS:
        raise DataError(explain("not a valid number of scans", where="batch_size", got=batch_size,
                                expected=f"0 to {MAX_SCANS}"))
    if len(coords) == 0:
        return
    limits = (batch_size, *shape)
    for axis, low, high, limit in zip(("scan", "x", "y", "z"), *(t.tolist() for t in coords.aminmax(dim=0)), limits):
        if low < 0 or high >= limit:
            raise DataError(explain(f"{axis} is out of range", where="coords", got=f"{low} to {high}",
                                    expected=f"0 to {limit - 1}"))


@dataclass(frozen=True)
class Engine:
    """What a network is built from: its own form of a SparseTensor, and three modules. Every engine's
    modules have the same parameters.
    """

    tensor: Callable[[SparseTensor], Any]
    SubMConv3d: Callable[..., nn.Module]
    SparseConv3d: Callable[..., nn.Module]
    SparseInverseConv3d: Callable[..., nn.Module]


def _unchanged(x: SparseTensor) -> SparseTensor:
    return x


def _native_engine() -> Engine:
    return Engine(_unchanged, SubMConv3d, SparseConv3d, SparseInverseConv3d)


def _spconv_engine() -> Engine:
    require_package("spconv.pytorch", extra="cuda", purpose="engine 'spconv'")
    from pc3d.nn.sparse_spconv import build_engine

    return build_engine()


ENGINES: dict[str, Callable[[], Engine]] = {"auto": _native_engine, "native": _native_engine, "spconv": _spconv_engine}


def engine(name: str) -> Engine:
    """The engine of a name: auto (native), native, or spconv (when installed; else BackendError)."""
    if name not in ENGINES:
        raise ConfigError(explain("unknown engine", where="engine", got=repr(name), expected=f"one of {sorted(ENGINES)}"))
    return ENGINES[name]()
