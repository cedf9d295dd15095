"""Sparse convolution ops: maps and sums mean what their references say, for every kernel, dtype and number of threads."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from pc3d.errors import DataError
from pc3d.ops import sparse_conv as conv_module
from pc3d.ops import sparse_map as map_module
from pc3d.ops._library import has_kernel
from pc3d.ops.sparse_conv import pack_weight, sparse_conv, sparse_conv_norm_relu
from pc3d.ops.sparse_map import KernelMap, coarse_keys, conv_shape, kernel_map, pack_keys, unpack_keys

CUBE = {"kernel_size": (3, 3, 3), "stride": (1, 1, 1), "padding": (1, 1, 1)}
DOWN = {"kernel_size": (2, 2, 2), "stride": (2, 2, 2), "padding": (0, 0, 0)}
GEOMETRIES = [
    CUBE, DOWN,
    {"kernel_size": (2, 2, 2), "stride": (1, 1, 1), "padding": (0, 0, 0)},
    {"kernel_size": (1, 3, 5), "stride": (1, 1, 1), "padding": (0, 1, 2)},
    {"kernel_size": (3, 3, 3), "stride": (2, 2, 2), "padding": (1, 1, 1)},
    {"kernel_size": (5, 2, 3), "stride": (3, 1, 2), "padding": (2, 0, 1)},
    {"kernel_size": (4, 1, 2), "stride": (4, 1, 2), "padding": (0, 0, 0)},
]
SHAPE = (9, 7, 11)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def some_keys(count: int, shape: tuple[int, int, int] = SHAPE, scans: int = 2) -> Tensor:
    cells = scans * shape[0] * shape[1] * shape[2]
    chosen = torch.randperm(cells, generator=generator())[:count].sort().values
    return pack_keys(torch.stack(torch.unravel_index(chosen, (scans, *shape)), 1))


def a_map(count: int = 200, geometry: dict = CUBE) -> KernelMap:
    keys = some_keys(count)
    out = keys if geometry["stride"] == (1, 1, 1) else coarse_keys(keys, **geometry, shape=conv_shape(SHAPE, **geometry))
    return kernel_map(out, keys, **geometry)


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(), dtype=dtype)


def op_arguments(pairs: KernelMap, in_channels: int, out_channels: int, dtype: torch.dtype = torch.float64) -> tuple:
    x, weight = normal(pairs.num_in, in_channels, dtype=dtype), normal(out_channels, pairs.num_taps, in_channels, dtype=dtype)
    return x, weight, pairs.in_rows, pairs.out_rows, pairs.tap_offsets, pairs.num_out


def test_keys_unpack_and_order_as_coordinates_do() -> None:
    coords = torch.tensor([[0, 0, 0, 0], [0, 0, 5, 65_407], [0, 1, 0, 0], [1, 0, 0, 0], [32_767, 9, 9, 9]], dtype=torch.int32)
    keys = pack_keys(coords)
    assert torch.equal(unpack_keys(keys), coords)
    assert bool((keys.diff() > 0).all())


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("count", [0, 1, 300])
def test_maps_and_coarse_sites_equal_their_definition(geometry: dict, count: int) -> None:
    keys, shape = some_keys(count), conv_shape(SHAPE, **geometry)
    sizes = [list(geometry[name]) for name in ("kernel_size", "stride", "padding")]
    coarse = coarse_keys(keys, **geometry, shape=shape)
    assert torch.equal(coarse, map_module._coarse_keys_reference(keys, *sizes, list(shape)))
    for out in (coarse, keys):
        pairs = kernel_map(out, keys, **geometry)
        expected = map_module._kernel_map_reference(out, keys, *sizes)
        assert all(torch.equal(a, b) for a, b in zip((pairs.in_rows, pairs.out_rows, pairs.tap_offsets), expected))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_maps_of_many_voxels_equal_their_definition(geometry: dict, threads: int) -> None:
    shape, before = (33, 20, 201), torch.get_num_threads()      # more than a task of each thread, z over several words of bits
    keys = some_keys(30_000, shape)
    sizes = [list(geometry[name]) for name in ("kernel_size", "stride", "padding")]
    coarse_shape = conv_shape(shape, **geometry)
    torch.set_num_threads(threads)
    try:
        coarse = coarse_keys(keys, **geometry, shape=coarse_shape)
        made = [(out, kernel_map(out, keys, **geometry)) for out in (coarse, keys)]
    finally:
        torch.set_num_threads(before)
    assert torch.equal(coarse, map_module._coarse_keys_reference(keys, *sizes, list(coarse_shape)))
    for out, pairs in made:
        expected = map_module._kernel_map_reference(out, keys, *sizes)
        assert all(torch.equal(a, b) for a, b in zip((pairs.in_rows, pairs.out_rows, pairs.tap_offsets), expected))


def test_rows_of_a_tap_ascend() -> None:
    pairs = a_map()
    for tap in range(pairs.num_taps):
        begin, end = pairs.tap_offsets[tap:tap + 2].tolist()
        assert bool((pairs.in_rows[begin:end].diff() > 0).all())
        assert bool((pairs.out_rows[begin:end].diff() > 0).all())


needs_kernels = pytest.mark.skipif(not has_kernel("sparse_conv"), reason="the native library was not built")
ISAS = ["plain", "avx2", "avx512", "avx512bf16", "amx"]     # of these a machine runs what it has, at most
PRECISIONS = [(torch.float64, 1e-14), (torch.float32, 3e-6), (torch.bfloat16, 5e-3)]
CHANNELS = [(7, 13), (13, 23), (32, 32), (9, 80), (48, 160), (200, 40)]


@needs_kernels
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("channels", CHANNELS, ids=str)
@pytest.mark.parametrize("geometry", [CUBE, DOWN], ids=["cube", "down"])
def test_every_instruction_set_gives_the_reference(isa: str, channels: tuple[int, int], geometry: dict,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    for dtype, tolerance in PRECISIONS:
        x, weight, *pairs, num_out = op_arguments(a_map(700, geometry), *channels, dtype)
        grad = normal(num_out, channels[1], dtype=dtype)
        y = conv_module._conv_op(x, weight, *pairs, num_out)
        assert y.dtype == dtype
        assert close(y, conv_module._conv_reference(x.double(), weight.double(), *pairs, num_out), tolerance)
        dw = conv_module._weight_grad_op(x, grad, *pairs)
        assert dw.dtype == dtype
        assert close(dw, conv_module._weight_grad_reference(x.double(), grad.double(), *pairs), tolerance)


@needs_kernels
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("widths", [(13,), (7, 13), (32, 32), (48, 33)], ids=str)
@pytest.mark.parametrize("with_residual", [True, False])
def test_one_pass_gives_what_its_steps_give(isa: str, widths: tuple[int, ...], with_residual: bool,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    pairs, out = a_map(700), 45
    for dtype, tolerance in PRECISIONS:
        xs = [normal(pairs.num_in, width, dtype=dtype) for width in widths]
        weight, residual = normal(out, 27, sum(widths), dtype=dtype), normal(pairs.num_out, out, dtype=dtype)
        sums = torch.promote_types(dtype, torch.float32)
        norms = [tuple(t) for t in normal(2, 2, out, dtype=sums)]
        added = residual if with_residual else None
        expected = conv_module._norm_relu_reference(
            [x.double() for x in xs], weight.double(), None, pairs.in_rows, pairs.out_rows, pairs.tap_offsets, pairs.num_out,
            None if added is None else added.double(), [s.double() for s, _ in norms], [s.double() for _, s in norms], True)
        packed = pack_weight(weight, widths)
        for wanted in (True, False):
            got = sparse_conv_norm_relu(xs, weight, pairs, packed=packed, residual=added, norms=norms, raw=wanted)
            assert len(got) == 2 + wanted
            assert all(y.dtype == dtype and close(y, e, tolerance) for y, e in zip(got, expected[not wanted:]))
        assert all(map(torch.equal, got, sparse_conv_norm_relu(xs, weight, pairs, residual=added, norms=norms, raw=False)))
        out_of_place = sparse_conv_norm_relu(xs, weight, pairs, residual=added, norms=norms)
        into = [torch.full_like(y, torch.nan) if added is None or i else added.clone() for i, y in enumerate(out_of_place)]
        filled = sparse_conv_norm_relu(xs, weight, pairs, residual=None if added is None else into[0], norms=norms, out=into)
        assert all(a is b and torch.equal(a, c) for a, b, c in zip(filled, into, out_of_place))


@needs_kernels
def test_results_that_do_not_fit_are_refused_before_they_are_written() -> None:
    pairs = a_map()
    x, weight = op_arguments(pairs, 3, 4)[:2]
    fitting = x.new_empty(pairs.num_out, 4)
    for out in ([], [fitting] * 2, [fitting[:-1]], [fitting.float()], [x.new_empty(4, pairs.num_out).t()]):
        with pytest.raises((RuntimeError, ValueError), match="result"):
            sparse_conv_norm_relu([x], weight, pairs, out=out)


@needs_kernels
def test_float32_keeps_its_digits_for_large_and_small_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", "amx")
    pairs = a_map(300)
    for scale in (1e-25, 1e-6, 1e6, 1e25):
        x, weight = (t.float() for t in op_arguments(pairs, 40, 8)[:2])
        y = sparse_conv(x * scale, weight, pairs)
        assert close(y, sparse_conv(x.double() * scale, weight.double(), pairs), 3e-6)


@needs_kernels
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_is_not_finite_stays_so_in_its_neighbourhood(isa: str, dtype: torch.dtype,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    pairs = a_map(300)
    x, weight = (t.to(dtype) for t in op_arguments(pairs, 9, 7)[:2])
    x[5, 3], x[170, 8] = torch.nan, torch.inf
    y = sparse_conv(x, weight, pairs)
    reached = torch.zeros(pairs.num_out, dtype=torch.bool)
    reached[pairs.out_rows[(pairs.in_rows == 5) | (pairs.in_rows == 170)].long()] = True
    assert torch.equal(~y.isfinite().all(1), reached)


def close(value: Tensor, expected: Tensor, tolerance: float) -> bool:
    return bool((value - expected).abs().max() <= tolerance * expected.abs().max())


@pytest.mark.parametrize("isa", ["avx2", "amx"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_results_are_the_same_bits_for_any_number_of_threads(isa: str, dtype: torch.dtype,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    keys = some_keys(20_000, (40, 40, 40))  # several blocks of outputs, and several chunks of the weight gradient
    pairs, before, results = kernel_map(keys, keys, **CUBE), torch.get_num_threads(), []
    x, weight, grad = (normal(*s).to(dtype) for s in ((len(keys), 16), (48, 27, 16), (len(keys), 48)))
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            x_leaf, w_leaf = x.clone().requires_grad_(), weight.clone().requires_grad_()
            y = sparse_conv(x_leaf, w_leaf, pairs)
            y.backward(grad)
            results.append((y, x_leaf.grad, w_leaf.grad, kernel_map(keys, keys, **CUBE).in_rows))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("geometry", [CUBE, DOWN], ids=["cube", "down"])
def test_gradients_match_finite_differences_twice(geometry: dict) -> None:
    pairs = a_map(12, geometry)
    x, weight = (t.requires_grad_() for t in op_arguments(pairs, 2, 3)[:2])
    assert torch.autograd.gradcheck(lambda a, b: sparse_conv(a, b, pairs), (x, weight))
    assert torch.autograd.gradgradcheck(lambda a, b: sparse_conv(a, b, pairs), (x, weight))


def test_a_swapped_map_is_the_transposed_convolution() -> None:
    pairs = a_map(geometry=DOWN)
    x, weight = op_arguments(pairs, 3, 4)[:2]
    y = normal(pairs.num_out, 4)
    forward = (sparse_conv(x, weight, pairs) * y).sum()
    backward = (x * sparse_conv(y, weight.transpose(0, 2), pairs.swapped())).sum()
    assert forward.item() == pytest.approx(backward.item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types_are_summed_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    pairs = a_map()
    x, weight = (t.to(dtype) for t in op_arguments(pairs, 8, 8)[:2])
    y = sparse_conv(x, weight, pairs)
    assert y.dtype == dtype
    exact = sparse_conv(x.double(), weight.double(), pairs)
    assert bool(((y - exact).abs() <= 0.51 * torch.finfo(dtype).eps * exact.abs() + 1e-5).all())


def test_what_does_not_fit_is_named() -> None:
    pairs = a_map()
    x, weight = op_arguments(pairs, 3, 4)[:2]
    for bad_x, bad_weight, name in (
        (x[1:], weight, "x"), (x[0], weight, "x"), (x, weight[:, 1:], "weight"), (x, weight[..., 1:], "weight"),
        (x, weight.float(), "weight"), (x.long(), weight.long(), "x"),
        (x.to(torch.float8_e4m3fn), weight.to(torch.float8_e4m3fn), "x"),
    ):
        with pytest.raises(DataError, match=f"^{name}:"):
            sparse_conv(bad_x, bad_weight, pairs)


@pytest.mark.skipif(not has_kernel("sparse_kernel_map"), reason="the native library was not built")
@pytest.mark.parametrize("bad", [torch.zeros(5000, dtype=torch.int64), some_keys(50).flip(0), some_keys(50)[[0, 1, 1]]],
                         ids=["all equal", "unsorted", "one twice"])
def test_keys_that_are_not_sorted_and_unique_are_refused(bad: Tensor) -> None:
    good = some_keys(3)
    for out, into in ((bad, good), (good, bad), (bad, bad)):
        with pytest.raises(ValueError, match="sorted and unique"):
            kernel_map(out, into, **CUBE)
    with pytest.raises(ValueError, match="sorted and unique"):
        coarse_keys(bad, **DOWN, shape=SHAPE)


@needs_kernels
def test_a_map_of_other_voxels_is_refused_before_it_reads_memory() -> None:
    pairs = a_map()
    x, weight = op_arguments(pairs, 3, 4)[:2]
    for name, row in (("in_rows", 10_000), ("in_rows", -1), ("out_rows", 10_000)):
        rows = getattr(pairs, name).clone()
        rows[0 if row < 0 else int(pairs.tap_offsets[1]) - 1] = row
        with pytest.raises((RuntimeError, ValueError), match=name):
            sparse_conv(x, weight, dataclasses.replace(pairs, **{name: rows}))
    for name in ("in_rows", "out_rows"):
        rows = getattr(pairs, name).clone()
        rows[1] = 10_000                            # neither first nor last of its tap
        with pytest.raises((RuntimeError, ValueError), match="must ascend"):
            sparse_conv(x, weight, dataclasses.replace(pairs, **{name: rows}))


@needs_kernels
def test_rows_that_do_not_ascend_are_refused_in_any_block() -> None:
    pairs = a_map(700)
    x, weight = op_arguments(pairs, 3, 4)[:2]
    y = normal(pairs.num_out, 4)
    for begin, end in ((int(n) for n in pairs.tap_offsets[tap:][:2]) for tap in (0, 12, 26)):
        for name in ("in_rows", "out_rows"):
            for first in range(begin, end - 1, (end - begin) // 7):
                rows = getattr(pairs, name).clone()
                rows[[first, first + 1]] = rows[[first + 1, first]]
                changed = dataclasses.replace(pairs, **{name: rows})
                with pytest.raises((RuntimeError, ValueError), match=r"must ascend|out of range"):
                    sparse_conv(x, weight, changed)
                with pytest.raises((RuntimeError, ValueError), match=r"must ascend|out of range"):
                    conv_module._weight_grad_op(x, y, changed.in_rows, changed.out_rows, changed.tap_offsets)
