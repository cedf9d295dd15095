"""The U-Net for inference, with the norms folded: each convolution adds, normalises and activates what it has just summed.

Equal to the modules run one after another, up to the rounding of float32. A residual block

    y = i(x) + conv2(relu(norm2(conv1(relu(norm1(x))))))

becomes two passes over memory: conv1 gives relu(norm2(.)) alone; conv2 starts from i(x) and gives y beside relu(norm(y)) for
each norm that reads y next. Concatenated inputs are read where they lie. Each matrix is read by one convolution, so all share
a few matrices' memory, and y lies where i(x) did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from pc3d.nn.norm import BatchNorm
from pc3d.nn.sparse import Sites, SparseTensor
from pc3d.ops._library import has_kernel
from pc3d.ops.sparse_conv import pack_weight, sparse_conv_norm_relu
from pc3d.ops.sparse_map import KernelMap

Blocks = Sequence[Any]           # ResidualBlock, of pc3d.nn.unet, which imports this module

Norm = tuple[Tensor, Tensor]     # scale and shift per channel


class Recycled:
    """Lends memory for matrices, and lends again what was given back. To get it fresh takes a sixth of the time of a pass.

    Sizes are powers of two, so that scans of other sizes fit; what is never written takes no memory.
    """

    def __init__(self) -> None:
        self.free: dict[int, list[torch.UntypedStorage]] = defaultdict(list)     # by size
        self.lent: dict[int, torch.UntypedStorage] = {}                          # by address
        self.used: set[int] = set()                                              # addresses lent since the last rest

    def take(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """An uninitialised (rows, columns) in the type of ``like``."""
        size = 1 << (rows * columns * like.element_size()).bit_length()
        try:
            storage = self.free[size].pop()      # not asked for before: another thread might take the last
        except IndexError:
            storage = torch.UntypedStorage(size, device=like.device)
        self.used.add(storage.data_ptr())
        self.lent[storage.data_ptr()] = storage
        return like.new_empty(0).set_(storage, 0, (rows, columns), (columns, 1))

    def give_back(self, matrices: Iterable[Tensor]) -> None:
        """Nothing reads these any more; what was not lent is left alone."""
        for x in matrices:
            if storage := self.lent.pop(x.data_ptr(), None):
                self.free[storage.nbytes()].append(storage)

    def rest(self) -> None:
        """A pass is over: what is still lent is not ours any more, and what the pass had no use for is freed."""
        for storages in list(self.free.values()):
            for _ in range(len(storages)):       # each is taken out before it is looked at: another thread may be taking, too
                with suppress(IndexError):
                    storage = storages.pop(0)
                    if storage.data_ptr() in self.used:
                        storages.append(storage)
        self.lent, self.used = {}, set()

    def held(self) -> dict[int, int]:
        """Sizes of what is not lent, by address."""
        return {storage.data_ptr(): storage.nbytes() for storages in self.free.values() for storage in storages}


class OnePass:
    """Runs UNets; keeps their weights as the kernels read them, until they change, and the memory they worked in for the next.

    A change is seen by its version counter. Fused optimizers leave that as it is, so a pass with gradients forgets what is
    kept, and of a weight with a gradient, which a step may change at any time, nothing is kept. Writing through
    ``parameter.data`` bumps none either: call ``train()`` and ``eval()`` of the network after it, which forget too.
    """

    def __init__(self) -> None:
        # Layer -> state, the weight as it was given, as inputs need it, and packed. The first keeps its address from reuse.
        self.kept: WeakKeyDictionary[nn.Module, tuple[Any, Tensor, Tensor, Tensor | None]] = WeakKeyDictionary()
        self.memory = Recycled()

    def __reduce__(self) -> tuple[type[OnePass], tuple[()]]:
        return OnePass, ()       # a copy packs for itself

    def forget(self) -> None:
        """Keep nothing any more."""
        self.kept.clear()
        self.memory = Recycled()

    def serves(self, network: nn.Module, x: Any) -> bool:
        """Whether this network and input can be run so: by native kernels, without gradients, statistics or hooks to call.

        There are none for float16, which no processor multiplies.
        """
        return (isinstance(x, SparseTensor) and not torch.is_grad_enabled() and x.features.dtype != torch.float16
                and has_kernel("sparse_conv_norm_relu", x.features.device.type.upper())
                and not any(m.training or m._forward_hooks or m._forward_pre_hooks for m in network.modules()))

    def run(self, network: Any, x: SparseTensor) -> Tensor:
        """Features (V, channels[0]) of the voxels of x, in its order."""
        first, last = network.unet.blocks[0].conv_branch[0], network.output_layer[0]
        convolution = network.input_conv[0]
        pairs = x.sites.submanifold_map(convolution.kernel_size)
        raw, active = self.convolve(convolution, [x.features], pairs, norms=[fold(first)])
        y, = self.level(network.unet, x.moved(raw, x.sites), active, [fold(last)])
        self.memory.rest()
        return y

    def level(self, level: Any, x: SparseTensor, active: Tensor, norms: Sequence[Norm]) -> list[Tensor]:
        """A UBlock; ``active`` is x as its first block reads it, the results are y as ``norms`` read it."""
        if level.u is None:
            return self.blocks(level.blocks, x.sites, [x.features], [active], norms, raw=False)
        down_norm, _, down_conv = level.conv
        up_norm, _, up_conv = level.deconv
        of_skip, of_up = halves(fold(level.blocks_tail[0].conv_branch[0]))
        wanted = [fold(down_norm), of_skip]
        skip, below, skip_active = self.blocks(level.blocks, x.sites, [x.features], [active], wanted, raw=True)

        down = down_conv.downsampling(x)
        first = fold(level.u.blocks[0].conv_branch[0])
        coarse, coarse_active = self.convolve(down_conv, [below], down.pairs, norms=[first])
        deep, = self.level(level.u, x.moved(coarse, down.coarse), coarse_active, [fold(up_norm)])
        up, up_active = self.convolve(up_conv, [deep], down.pairs.swapped(), norms=[of_up])
        return self.blocks(level.blocks_tail, x.sites, [skip, up], [skip_active, up_active], norms, raw=False)

    def blocks(self, blocks: Blocks, sites: Sites, xs: list[Tensor], active: list[Tensor],
               norms: Sequence[Norm], *, raw: bool) -> list[Tensor]:
        """Residual blocks: the last one's y if ``raw``, and y as each of ``norms`` reads it."""
        *others, last = blocks
        for block, following in zip(others, blocks[1:]):
            x, a = self.block(block, sites, xs, active, [fold(following.conv_branch[0])], raw=True)
            xs, active = [x], [a]
        return self.block(last, sites, xs, active, norms, raw=raw)

    def block(self, block: Any, sites: Sites, xs: list[Tensor], active: list[Tensor], norms: Sequence[Norm], *,
              raw: bool) -> list[Tensor]:
        """One residual block of inputs side by side."""
        _, _, conv1, norm2, _, conv2 = block.conv_branch
        shortcut, = block.i_branch
        added = xs[0] if isinstance(shortcut, nn.Identity) else self.convolve(shortcut, xs, sites.submanifold_map((1, 1, 1)))[0]
        pairs = sites.submanifold_map(conv1.kernel_size)
        middle, = self.convolve(conv1, active, pairs, norms=[fold(norm2)], raw=False)
        return self.convolve(conv2, [middle], pairs, residual=added, norms=norms, raw=raw)

    def convolve(self, layer: Any, xs: list[Tensor], pairs: KernelMap, *, residual: Tensor | None = None,
                 norms: Sequence[Norm] = (), raw: bool = True) -> list[Tensor]:
        """One convolution with all that follows it, the only one to read ``xs`` and ``residual``."""
        weight, packed = self.weight(layer, xs)
        out = [self.memory.take(pairs.num_out, weight.shape[0], xs[0]) for _ in norms]
        if raw:
            out.insert(0, self.memory.take(pairs.num_out, weight.shape[0], xs[0]) if residual is None else residual)
        sparse_conv_norm_relu(xs, weight, pairs, packed=packed, residual=residual, norms=norms, raw=raw, out=out)
        self.memory.give_back([x for x in (*xs, residual) if x is not None and x is not out[0]])
        return out

    def weight(self, layer: Any, xs: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """The weight (Cout, K, Cin) in the type of the inputs, and the same packed for the kernels."""
        given, lasting = layer.weight, not layer.weight.is_inference() and layer.weight.grad is None
        state = (given.data_ptr(), given._version, xs[0].dtype, torch.ops.pc3d.native_isa()) if lasting else None
        kept = self.kept.pop(layer, None)
        if kept is None or kept[0] != state:
            weight = given.detach().to(xs[0].dtype).flatten(1, 3)
            kept = state, given.detach(), weight, pack_weight(weight, [x.shape[1] for x in xs])
        if lasting:
            self.kept[layer] = kept
        return kept[2], kept[3]


def fold(norm: BatchNorm) -> Norm:
    """Scale and shift of a norm that uses its running statistics, ``norm(x) = scale * x + shift``; half types in float32."""
    wide = torch.promote_types(norm.weight.dtype, torch.float32)
    weight, bias, mean, var = (t.to(wide) for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var))
    scale = weight * (var + norm.eps).rsqrt()
    return scale, bias - mean * scale


def halves(norm: Norm) -> tuple[Norm, Norm]:
    """A norm of two inputs side by side as one for each."""
    (scale_a, scale_b), (shift_a, shift_b) = (t.chunk(2) for t in norm)
    return (scale_a, shift_a), (scale_b, shift_b)
