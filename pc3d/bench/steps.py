"""``pc3d bench steps``: every step of a scan's way, from the mesh to instances, on scene S."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pc3d.bench.compare import Row, measure
from pc3d.bench.scene import make_scene, voxel_coords
from pc3d.config import ModelConfig, build
from pc3d.models import build as build_model
from pc3d.nn.sparse import SparseTensor, SubMConv3d
from pc3d.ops import knn, segment_pool, segment_softmax
from pc3d.structures import PointCloud
from pc3d.superpoints import compute_superpoints

CHANNELS = 32
SMALL = {"backbone": {"channels": [16, 32, 48, 64, 80], "voxel_size": 0.04}, "classes": ["object"],
         "decoder": {"num_queries": 80, "d_model": 128, "num_heads": 4, "d_ffn": 256}}


def run(rounds: int) -> Iterator[Row]:
    """Times of superpoints, neighbours, pooling, one convolution, and the whole way with a network of the size that ships."""
    scene = make_scene()
    yield from _geometry(scene, rounds)
    yield from _pooling(scene, rounds)
    yield from _convolution(scene, rounds)
    yield from _network(scene, rounds)


def _geometry(scene: PointCloud, rounds: int) -> Iterator[Row]:
    points, bare = torch.from_numpy(scene.xyz), scene.replace(faces=None)
    yield measure("superpoints of the mesh", lambda: compute_superpoints(scene), rounds)
    yield measure("superpoints of its bare points", lambda: compute_superpoints(bare), rounds)
    yield measure("16 nearest neighbours", lambda: knn(points, 16), rounds)


def _pooling(scene: PointCloud, rounds: int) -> Iterator[Row]:
    index = torch.arange(len(scene)) // 100
    count = int(index.max()) + 1
    x = _features(len(scene))
    yield measure("superpoint mean", lambda: segment_pool(x, index, count, "mean"), rounds)
    yield measure("superpoint max", lambda: segment_pool(x, index, count, "max"), rounds)
    yield measure("superpoint softmax", lambda: segment_softmax(x, index, count), rounds)


def _convolution(scene: PointCloud, rounds: int) -> Iterator[Row]:
    coords = torch.from_numpy(voxel_coords(scene))
    shape = (coords[:, 1:].amax(0) + 1).tolist()
    features = _features(len(coords))
    layer = SubMConv3d(CHANNELS, CHANNELS, 3)
    grid = SparseTensor(features, coords, shape, 1)

    def forward_backward() -> None:
        layer(grid.replace_feature(features.detach().requires_grad_())).features.sum().backward()

    with torch.no_grad():
        yield measure("3x3x3 convolution with its map", lambda: layer(SparseTensor(features, coords, shape, 1)), rounds)
        yield measure("3x3x3 convolution", lambda: layer(grid), rounds)
    yield measure("3x3x3 convolution, forward and backward", forward_backward, rounds)


def _network(scene: PointCloud, rounds: int) -> Iterator[Row]:
    from pc3d.engine import Segmenter

    torch.manual_seed(0)
    segmenter = Segmenter(build_model(build(ModelConfig, SMALL, where="benchmark")), "cpu")
    prepared = compute_superpoints(scene)
    yield measure("the whole way, a small untrained network", lambda: segmenter(prepared), rounds)


def _features(rows: int) -> torch.Tensor:
    return torch.randn(rows, CHANNELS, generator=torch.Generator().manual_seed(0))
