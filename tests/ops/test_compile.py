"""torch.compile takes the ops without a graph break: fakes have the right shapes, and checks stay in the graph."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pc3d.nn.asam import ASAM
from pc3d.nn.sparse import SparseTensor, SubMConv3d
from pc3d.ops import segment_pool


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def test_asam_compiles_whole() -> None:
    torch.manual_seed(0)
    asam, points, ids = ASAM(4).eval(), torch.randn(40, 4), torch.arange(40) % 6
    results = []
    for module in (asam, torch.compile(asam, fullgraph=True, backend="aot_eager")):
        leaf = points.clone().requires_grad_()
        pooled = module(leaf, ids, 7)
        results.append((pooled, *torch.autograd.grad(pooled.square().sum(), leaf)))
    for compiled, plain in zip(results[1], results[0]):
        torch.testing.assert_close(compiled, plain)


@pytest.mark.parametrize("warm", [True, False], ids=["map there", "map made inside"])
def test_a_sparse_convolution_compiles_whole(warm: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    cells = torch.randperm(200, generator=generator)[:60]
    coords = torch.stack(torch.unravel_index(cells, (2, 5, 4, 5)), 1).int()
    features, layer = torch.randn(60, 5, generator=generator).requires_grad_(), SubMConv3d(5, 7, 3, bias=True)
    x = SparseTensor(features, coords, (5, 4, 5), 2)
    expected = layer(SparseTensor(features, coords, (5, 4, 5), 2)).features
    if warm:
        layer(x)
    y = torch.compile(layer, fullgraph=True, backend="aot_eager")(x).features
    torch.testing.assert_close(y, expected)
    for got, plain in zip(*(torch.autograd.grad(z.square().sum(), [features, layer.weight]) for z in (y, expected))):
        torch.testing.assert_close(got, plain)


def test_a_compiled_graph_refuses_ids_out_of_range() -> None:
    pool = torch.compile(lambda x, index: segment_pool(x, index, 2, "sum"), fullgraph=True, backend="aot_eager")
    x = torch.ones(3, 2)
    assert torch.equal(pool(x, torch.tensor([0, 1, 1])), torch.tensor([[1.0, 1], [2, 2]]))
    for bad in (-1, 2):
        with pytest.raises(RuntimeError, match=r"segment id out of range; expected ids in \[0, 2\)"):
            pool(x, torch.tensor([0, bad, 1]))
