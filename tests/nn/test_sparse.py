"""Sparse modules equal dense convolutions at the active voxels, values and gradients."""

from __future__ import annotations

import math
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pc3d.errors import BackendError, ConfigError, DataError
from pc3d.nn.sparse import Size, SparseConv3d, SparseInverseConv3d, SparseTensor, SubMConv3d, engine

SHAPE = (7, 6, 9)
SCANS = 2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_voxels(count: int = 250, channels: int = 7, *, shape: tuple[int, int, int] = SHAPE) -> SparseTensor:
    """Voxels of two scans in random order."""
    chosen = torch.randperm(SCANS * math.prod(shape), generator=generator())[:count]
    coords = torch.stack(torch.unravel_index(chosen, (SCANS, *shape)), 1).int()
    features = torch.randn(count, channels, dtype=torch.float64, generator=generator())
    return SparseTensor(features.requires_grad_(), coords, shape, SCANS)


def to_dense(x: SparseTensor) -> Tensor:
    grid = x.features.new_zeros(SCANS, *x.spatial_shape, x.features.shape[1])
    return grid.index_put(x.coords.long().unbind(1), x.features).permute(0, 4, 1, 2, 3)


def at_sites(grid: Tensor, coords: Tensor) -> Tensor:
    return grid.permute(0, 2, 3, 4, 1)[coords.long().unbind(1)]


def assert_equal_with_gradients(y: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    """Values and all gradients of a weighted sum agree to float64."""
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(y.shape, dtype=y.dtype, generator=generator(1))
    for a, b in zip(torch.autograd.grad(y, leaves, upstream), torch.autograd.grad(expected, leaves, upstream)):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kernel", [1, 2, 3, (1, 3, 5), 5], ids=str)
@pytest.mark.parametrize("channels", [(7, 13), (13, 23)], ids=str)
def test_submanifold_convolution_equals_dense(kernel: int | tuple[int, ...], channels: tuple[int, int]) -> None:
    x, layer = some_voxels(channels=channels[0]), SubMConv3d(*channels, kernel, bias=True).double()
    margins = [m for k in reversed(layer.kernel_size) for m in ((k - 1) // 2, k // 2)]
    dense = F.conv3d(F.pad(to_dense(x), margins), layer.weight.permute(0, 4, 1, 2, 3), layer.bias)
    assert_equal_with_gradients(layer(x).features, at_sites(dense, x.coords), [x.features, layer.weight, layer.bias])


def test_a_kernel_of_ones_counts_active_neighbours() -> None:
    x, layer = some_voxels(channels=1), SubMConv3d(1, 1, 3).double()
    nn.init.ones_(layer.weight)
    apart = (x.coords[:, None].long() - x.coords[None].long()).abs()
    near = (apart[..., 0] == 0) & (apart[..., 1:] <= 1).all(2)
    counted = layer(x.replace_feature(torch.ones_like(x.features))).features
    assert torch.equal(counted[:, 0], near.sum(1).double())


@pytest.mark.parametrize("tap", [(0, 0, 0), (1, 1, 1), (2, 0, 1), (1, 2, 2)], ids=str)
def test_the_identity_at_one_tap_reads_that_neighbour(tap: tuple[int, int, int]) -> None:
    x, layer = some_voxels(channels=7), SubMConv3d(7, 7, 3).double()
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.weight[:, tap[0], tap[1], tap[2]] = torch.eye(7)
    rows = {tuple(coord): row for row, coord in enumerate(x.coords.tolist())}
    found = [rows.get((scan, *(place + t - 1 for place, t in zip(at, tap)))) for scan, *at in x.coords.tolist()]
    expected = torch.stack([torch.zeros(7).double() if row is None else x.features[row] for row in found])
    assert torch.equal(layer(x).features, expected)


def test_triangular_weights_add_up_channels() -> None:
    x, layer = some_voxels(channels=13), SubMConv3d(13, 13, 3).double()
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.weight[:, 1, 1, 1] = torch.ones(13, 13).tril()
    torch.testing.assert_close(layer(x).features, x.features.cumsum(1), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [
    (2, 2, None), (3, 2, None), (3, 1, None), (2, 3, 0), (5, 2, 1), ((1, 3, 3), 2, (0, 1, 1)), (3, (1, 2, 2), (2, 1, 0))])
def test_strided_convolution_and_its_inverse_equal_dense(kernel: Size, stride: Size, padding: Size | None) -> None:
    x = some_voxels()
    down = SparseConv3d(7, 13, kernel, stride=stride, padding=padding, key="down", bias=True).double()
    y = down(x)
    margin = down.padding
    dense = F.conv3d(to_dense(x), down.weight.permute(0, 4, 1, 2, 3), down.bias, stride=stride, padding=margin)
    assert y.spatial_shape == dense.shape[2:]
    assert_equal_with_gradients(y.features, at_sites(dense, y.coords), [x.features, down.weight, down.bias])

    up = SparseInverseConv3d(13, 7, kernel, key="down").double()
    coarse = y.replace_feature(y.features.detach().requires_grad_())
    empty_plane_behind = F.pad(to_dense(coarse), (0, 1) * 3)  # so that the transposed grid covers all fine voxels
    grown = F.conv_transpose3d(empty_plane_behind, up.weight.permute(4, 0, 1, 2, 3), stride=stride, padding=margin)
    z = up(coarse)
    assert z.sites is x.sites
    assert_equal_with_gradients(z.features, at_sites(grown, x.coords), [coarse.features, up.weight])


def test_every_reached_voxel_and_no_other_is_an_output() -> None:
    x = some_voxels(20)
    ones = x.replace_feature(torch.ones(20, 1, dtype=torch.float64))
    layer = SparseConv3d(1, 1, 3, stride=2, key="down").double()
    nn.init.ones_(layer.weight)
    y = layer(ones)
    dense = F.conv3d(to_dense(ones), torch.ones(1, 1, 3, 3, 3, dtype=torch.float64), stride=2, padding=1)
    assert len(y.coords) == int((dense > 0).sum())


def test_an_odd_last_plane_is_dropped_and_comes_back_as_zero() -> None:
    coords = torch.tensor([[0, 4, 1, 1], [0, 3, 1, 1]], dtype=torch.int32)
    x = SparseTensor(torch.ones(2, 1), coords, (5, 4, 4), 1)
    y = SparseConv3d(1, 1, 2, stride=2, key="down")(x)
    assert y.spatial_shape == (2, 2, 2)
    assert y.coords.tolist() == [[0, 1, 0, 0]]
    z = SparseInverseConv3d(1, 1, 2, key="down")(y)
    assert z.features[0].item() == 0
    assert z.features[1].item() != 0


def test_scans_never_mix() -> None:
    x, layer = some_voxels(), SubMConv3d(7, 5, 3).double()
    first = x.coords[:, 0] == 0
    alone = SparseTensor(x.features[first], x.coords[first], SHAPE, 1)
    torch.testing.assert_close(layer(x).features[first], layer(alone).features, rtol=0, atol=1e-13)


def test_rows_keep_their_own_order() -> None:
    x, layer = some_voxels(), SubMConv3d(7, 5, 3).double()
    order = torch.randperm(len(x.coords), generator=generator(2))
    shuffled = SparseTensor(x.features[order], x.coords[order], SHAPE, SCANS)
    assert torch.equal(layer(shuffled).features, layer(x).features[order])
    assert torch.equal(layer(x.in_key_order()).features, x.sites.into_sorted(layer(x).features))


@pytest.mark.parametrize("count", [0, 1])
def test_no_voxel_and_one_voxel_pass_through(count: int) -> None:
    x = some_voxels(count)
    y = SparseConv3d(7, 4, 2, stride=2, key="down").double()(SubMConv3d(7, 7, 3).double()(x))
    z = SparseInverseConv3d(4, 3, 2, key="down").double()(y)
    assert z.features.shape == (count, 3)
    z.features.sum().backward()
    assert x.features.grad is not None
    assert x.features.grad.shape == (count, 7)


def test_maps_are_made_once_per_batch() -> None:
    x = some_voxels()
    down = SparseConv3d(7, 7, 2, stride=2, key="down").double()
    first, second = down(x), down(x.replace_feature(2 * x.features))
    assert first.sites is second.sites
    assert x.sites.submanifold_map((3, 3, 3)) is x.sites.submanifold_map((3, 3, 3))
    other = down(some_voxels(100))
    assert other.sites is not first.sites


def test_weights_start_as_those_of_a_dense_layer() -> None:
    layer = SubMConv3d(16, 64, 3, bias=True)
    bound = 1 / math.sqrt(16 * 27)
    assert layer.weight.shape == (64, 3, 3, 3, 16)
    assert layer.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert layer.bias is not None


@pytest.mark.parametrize(("change", "name"), [
    ({"coords": torch.tensor([[0, 1, 1, 1]] * 2, dtype=torch.int32)}, "coords"),
    ({"coords": torch.tensor([[0, 1, -1, 1], [0, 2, 1, 1]], dtype=torch.int32)}, "coords"),
    ({"coords": torch.tensor([[0, 1, 4, 1], [0, 2, 1, 1]], dtype=torch.int32)}, "coords"),
    ({"coords": torch.tensor([[1, 1, 1, 1], [0, 2, 1, 1]], dtype=torch.int32)}, "coords"),
    ({"coords": torch.tensor([[0, 1, 1, 1], [0, 2, 1, 1]])}, "coords"),
    ({"coords": torch.zeros(2, 3, dtype=torch.int32)}, "coords"),
    ({"features": torch.zeros(3, 2)}, "features"),
    ({"features": torch.zeros(2, 2, dtype=torch.int64)}, "features"),
    ({"features": torch.zeros(2)}, "features"),
    ({"spatial_shape": (4, 4)}, "spatial_shape"),
    ({"spatial_shape": (4, 4, 0)}, "spatial_shape"),
    ({"spatial_shape": (4, 4, 100_000)}, "spatial_shape"),
    ({"batch_size": 40_000}, "batch_size"),
])
def test_arrays_that_make_no_sense_are_named(change: dict, name: str) -> None:
    good = {"features": torch.zeros(2, 2), "coords": torch.tensor([[0, 1, 1, 1], [0, 2, 1, 1]], dtype=torch.int32),
            "spatial_shape": (4, 4, 4), "batch_size": 1}
    SparseTensor(**good)
    with pytest.raises(DataError, match=f"^{name}: "):
        SparseTensor(**{**good, **change})


def test_a_voxel_given_twice_is_found_with_its_rows() -> None:
    coords = torch.tensor([[0, 3, 3, 3], [0, 1, 1, 1], [0, 2, 2, 2], [0, 1, 1, 1]], dtype=torch.int32)
    with pytest.raises(DataError, match="rows 1 and 3"):
        SparseTensor(torch.zeros(4, 1), coords, (4, 4, 4), 1)


def test_modules_that_do_not_fit_say_so() -> None:
    x = some_voxels()
    with pytest.raises(DataError, match=r"features: .*got 7; expected 8"):
        SubMConv3d(8, 4, 3).double()(x)
    with pytest.raises(DataError, match="features"):
        SubMConv3d(8, 4, 1).double()(x)
    with pytest.raises(DataError, match="key: no SparseConv3d"):
        SparseInverseConv3d(7, 4, 2, key="down").double()(x)
    y = SparseConv3d(7, 7, 2, stride=2, key="down").double()(x)
    for wrong in (SparseInverseConv3d(7, 4, 3, key="down").double(), SparseInverseConv3d(7, 4, 2, key="up").double()):
        with pytest.raises(DataError, match="key: "):
            wrong(y)
    with pytest.raises(DataError, match="key: "):
        SparseInverseConv3d(7, 4, 2, key="down").double()(x)
    for make in (lambda: SubMConv3d(1, 1, 0), lambda: SparseConv3d(1, 1, 2, stride=0, key="a"),
                 lambda: SparseConv3d(1, 1, 2, stride=2, padding=2, key="a"), lambda: SubMConv3d(1, 1, (3, 3)),
                 lambda: SubMConv3d(1, 1, 3.0), lambda: SubMConv3d(1, 1, True),
                 lambda: SparseConv3d(1, 1, (1, 3, 3), stride=1, padding=(1, 1, 1), key="a")):
        with pytest.raises(DataError, match="not a valid size"):
            make()
    for channels in ((0, 4), (4, 0)):
        with pytest.raises(DataError, match="needs channels"):
            SubMConv3d(*channels, 3)


def test_engines_are_known_by_name() -> None:
    assert engine("auto").SubMConv3d is engine("native").SubMConv3d is SubMConv3d
    with pytest.raises(ConfigError, match="spconv"):
        engine("cuda")


def test_a_missing_spconv_is_a_missing_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("spconv", "spconv.pytorch"):
        monkeypatch.setitem(sys.modules, name, None)  # what an import of it then meets, installed or not
    with pytest.raises(BackendError, match="spconv"):
        engine("spconv")
