"""``pc3d bench sparse_conv``: the backbone of Relation3D on scene S, whole and in parts, beside spconv and plain torch.

Peers: spconv's CPU path (``ConvAlgo.Native``, right at any number of threads) with the same weights, where it is installed;
and rows gathered offset by offset, multiplied by torch.mm and added, which is the op's own reference. Percent of peak is of
fused multiply-adds in vector registers (float32) or dot products (bfloat16): matrix units, where used, can pass 100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Literal
from unittest.mock import patch

import torch
from torch import Tensor

from pc3d.bench.compare import Row, close, compare, measure
from pc3d.bench.scene import make_scene, voxel_coords
from pc3d.config import BackboneConfig
from pc3d.nn.sparse import SparseTensor
from pc3d.nn.unet import UNet
from pc3d.ops._library import REFERENCES
from pc3d.ops.sparse_conv import sparse_conv
from pc3d.ops.sparse_map import KernelMap, Triple, coarse_keys, conv_shape, kernel_map

IN_CHANNELS = 6
CUBE: dict[str, Triple] = {"kernel_size": (3, 3, 3), "stride": (1, 1, 1), "padding": (1, 1, 1)}
DOWN: dict[str, Triple] = {"kernel_size": (2, 2, 2), "stride": (2, 2, 2), "padding": (0, 0, 0)}
SPCONV, GATHER = "spconv Native", "gather + torch.mm"
GRADIENTS = 1e-2                 # relative; any float32 engine's are 1e-3 from float64, for the norms of few voxels
FEW = 2                          # rounds, where one takes seconds


def run(rounds: int) -> Iterator[Row]:
    """Whole network, kernel maps, single convolutions, training step, memory."""
    room = Room()
    yield from _network(room, rounds)
    yield from _maps(room, rounds)
    yield from _single(room, rounds)
    yield from _training(room, rounds)


class Room:
    """Scene S as voxels with features, its levels, and networks of one set of weights."""

    def __init__(self) -> None:
        self.coords = torch.from_numpy(voxel_coords(make_scene()))
        x, y, z = (16 * (int(n) // 16 + 1) for n in self.coords[:, 1:].amax(0))
        self.shape: Triple = (x, y, z)
        self.features = torch.randn(len(self.coords), IN_CHANNELS, generator=_generator())
        self.levels = self.make_levels()

    def make_levels(self) -> list[tuple[KernelMap, KernelMap | None]]:
        """Per level, the maps of its 3x3x3 convolutions and of the one down to the next."""
        sites, shape, levels = SparseTensor(self.features, self.coords, self.shape, 1).sites, self.shape, []
        keys, last = sites.keys, len(BackboneConfig().channels) - 1
        for _ in range(last):
            shape = conv_shape(shape, **DOWN)
            below = coarse_keys(keys, **DOWN, shape=shape)
            levels.append((kernel_map(keys, keys, **CUBE), kernel_map(below, keys, **DOWN)))
            keys = below
        return [*levels, (kernel_map(keys, keys, **CUBE), None)]

    def network(self, engine: Literal["native", "spconv"] = "native",
                precision: Literal["float32", "bfloat16"] = "float32") -> UNet:
        """The backbone with seeded weights."""
        torch.manual_seed(0)
        state = UNet(IN_CHANNELS, BackboneConfig()).state_dict()
        network = UNet(IN_CHANNELS, BackboneConfig(engine=engine, precision=precision)).eval()
        network.load_state_dict(state)
        return network

    def run(self, network: UNet) -> Tensor:
        """Features of the voxels, for inference."""
        with torch.no_grad():
            y: Tensor = network(self.features, self.coords, self.shape, 1)
        return y

    def loss(self, network: UNet) -> Tensor:
        """A loss of the network in training."""
        y: Tensor = network.train()(self.features, self.coords, self.shape, 1)
        return y.square().mean()

    def step(self, network: UNet) -> Tensor:
        """Gradients of a training step in one vector."""
        gradients = torch.autograd.grad(self.loss(network), list(network.parameters()))
        return torch.cat([gradient.flatten() for gradient in gradients])

    def flop(self) -> float:
        """Multiply-adds of the network's convolutions, times two."""
        network, pairs = BackboneConfig(), [len(cube.in_rows) for cube, _ in self.levels]
        total = pairs[0] * IN_CHANNELS * network.channels[0]
        for level, (c, (cube, down)) in enumerate(zip(network.channels, self.levels)):
            blocks = 2 * network.block_reps
            total += pairs[level] * c * c * blocks
            if down is not None:
                total += 2 * len(down.in_rows) * c * network.channels[level + 1]
                total += pairs[level] * c * c * (blocks + 1) + 2 * cube.num_in * c * c
        return 2.0 * total


def _network(room: Room, rounds: int) -> Iterator[Row]:
    own, half, flop = room.network(), room.network(precision="bfloat16"), room.flop()
    if find_spec("spconv"):
        peer = room.network(engine="spconv")
        yield compare("U-Net, float32", lambda: room.run(own), lambda: room.run(peer), rounds, peer_name=SPCONV,
                      same=close(1e-4), flop=flop)
    yield compare("U-Net, float32", lambda: room.run(own), lambda: by_gathering(room.run, own), min(rounds, FEW),
                  peer_name=GATHER, same=close(1e-4), flop=flop)
    yield compare("U-Net, bfloat16", lambda: room.run(half), lambda: room.run(own), rounds, peer_name="ours in float32",
                  same=close(0.03), flop=flop, dtype=torch.bfloat16)


def _training(room: Room, rounds: int) -> Iterator[Row]:
    own, half, flop, few = room.network(), room.network(precision="bfloat16"), 3 * room.flop(), min(rounds, FEW)
    saved = {"saved_MB": saved_bytes(lambda: room.loss(own)) / 1e6,
             "peer_saved_MB": saved_bytes(lambda: by_gathering(room.loss, own)) / 1e6}
    if find_spec("spconv"):
        peer = room.network(engine="spconv")
        yield compare("training step, float32", lambda: room.step(own), lambda: room.step(peer), few, peer_name=SPCONV,
                      same=close(GRADIENTS), flop=flop)
    yield compare("training step, float32", lambda: room.step(own), lambda: by_gathering(room.step, own), 1, peer_name=GATHER,
                  same=close(GRADIENTS), flop=flop, figures=saved)
    yield compare("training step, bfloat16", lambda: room.step(half), lambda: room.step(own), few, peer_name="ours in float32",
                  same=close(0.1), flop=flop, dtype=torch.bfloat16)


def _maps(room: Room, rounds: int) -> Iterator[Row]:
    """All the maps of the network, from unsorted coordinates: ours sort and check them, too."""

    def own() -> Tensor:
        return torch.stack([torch.tensor([cube.num_in, len(cube.in_rows)]) for cube, _ in room.make_levels()])

    if find_spec("spconv"):
        yield compare("all kernel maps", own, lambda: _spconv_maps(room), rounds, peer_name="spconv get_indice_pairs",
                      same=close(0))
    else:
        yield measure("all kernel maps", own, rounds)


def _spconv_maps(room: Room) -> Tensor:
    """Voxels and pairs of each level, by spconv. It counts one half of a cube's taps, and not the tap in the middle."""
    from spconv.core import ConvAlgo
    from spconv.pytorch.ops import get_indice_pairs

    coords, shape, found = room.coords, room.shape, []
    for level in range(len(BackboneConfig().channels)):
        grid = (coords, 1, list(shape), ConvAlgo.Native)
        *_, counts = get_indice_pairs(*grid, [3] * 3, [1] * 3, [1] * 3, [1] * 3, [0] * 3, True)
        found.append(torch.tensor([len(coords), len(coords) + 2 * int(counts.sum())]))
        if level < len(BackboneConfig().channels) - 1:
            coords, *_ = get_indice_pairs(*grid, [2] * 3, [2] * 3, [0] * 3, [1] * 3, [0] * 3)
            shape = conv_shape(shape, **DOWN)
    return torch.stack(found)


def _single(room: Room, rounds: int) -> Iterator[Row]:
    """One 3x3x3 convolution of each level; the weights are packed at each call."""
    for channels, (cube, _) in zip(BackboneConfig().channels, room.levels):
        x = torch.randn(cube.num_in, channels, generator=_generator())
        weight = torch.randn(channels, cube.num_taps, channels, generator=_generator()) / 50
        half, flop = (x.bfloat16(), weight.bfloat16()), 2.0 * len(cube.in_rows) * channels**2
        name = f"3x3x3, {channels} to {channels}, {cube.num_in:,} voxels"

        def own(x: Tensor = x, weight: Tensor = weight, cube: KernelMap = cube) -> Tensor:
            return sparse_conv(x, weight, cube)

        def own_half(half: tuple[Tensor, Tensor] = half, cube: KernelMap = cube) -> Tensor:
            return sparse_conv(*half, cube)

        def peer(x: Tensor = x, weight: Tensor = weight, cube: KernelMap = cube) -> Tensor:
            return gather_conv(x, weight, cube)

        yield compare(f"{name}, float32", own, peer, rounds, peer_name=GATHER, same=close(1e-5), flop=flop)
        yield compare(f"{name}, bfloat16", own_half, own, rounds, peer_name="ours in float32", same=close(0.02), flop=flop,
                      dtype=torch.bfloat16)


def gather_conv(x: Tensor, weight: Tensor, pairs: KernelMap) -> Tensor:
    """The convolution by gathered rows and torch.mm, offset by offset."""
    result: Tensor = REFERENCES["sparse_conv"](x, weight, pairs.in_rows, pairs.out_rows, pairs.tap_offsets, pairs.num_out)
    return result


def by_gathering(run: Callable[[UNet], Tensor], network: UNet) -> Tensor:
    """What ``run`` gives when the network's convolutions gather."""
    with patch("pc3d.nn.sparse.sparse_conv", gather_conv), patch.object(network.one_pass, "serves", lambda *_: False):
        return run(network)


def saved_bytes(run: Callable[[], object]) -> int:
    """Bytes that autograd keeps for the backward pass of what ``run`` computes, without the parameters; shared memory once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    del result
    return sum(kept.values())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
