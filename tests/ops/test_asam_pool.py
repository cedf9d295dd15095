"""ASAM pooling: what it means, by its equations on autograd; its kernels held to the references, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pc3d.errors import DataError
from pc3d.ops import WeightNets, asam_pool, segment_expand, segment_pool
from pc3d.ops._library import REFERENCES, has_kernel

EPS = 1e-4
NAN = float("nan")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_nets(channels: int) -> WeightNets:
    norms = 0.3 * random(2, 2, 3, channels, seed=2)
    norms[:, :, 1] += 1
    norms[0, 0, 1, 1:2] = 0  # a norm may close a channel
    stats = torch.stack([0.2 * random(2, 2, channels, seed=3), random(2, 2, channels, seed=4).square() + 0.2], 2)
    return WeightNets(random(2, 2, channels, channels, seed=1) / channels**0.5, norms, random(2, channels + 1, seed=5), stats)


def make_case(channels: int, points: int = 500, rows: int = 400, segments: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Rows with ties, superpoints of which one has most points and the last none, rows of points: some shared, some unused."""
    generator = torch.Generator().manual_seed(6)
    index = torch.randint(0, segments - 1, (points,), generator=generator)
    index = torch.where(torch.rand(points, generator=generator) < 0.6, 2, index)
    return random(rows, channels).round(decimals=1), index, torch.randint(0, rows, (points,), generator=generator)


def by_the_equations(x: Tensor, index: Tensor, num_segments: int, nets: WeightNets, rows: Tensor, training: bool) -> Tensor:
    points, pooled = x[rows], []
    for b, reduce in enumerate(("mean", "max")):
        value = segment_expand(segment_pool(points, index, num_segments, reduce), index) - points
        for layer in range(2):
            bias, gamma, beta = nets.norms[b, layer]
            value = value @ nets.weights[b, layer].T + bias
            mean, var = (value.mean(0), value.var(0, unbiased=False)) if training else nets.stats[b, layer]
            value = ((value - mean) / (var + EPS).sqrt() * gamma + beta).relu()
        logit = value @ nets.last[b, :-1, None] + nets.last[b, -1]
        pooled.append(segment_pool(points, index, num_segments, "softmax", weight=logit))
    return torch.cat(pooled, 1)


def leaves(x: Tensor, nets: WeightNets, dtype: torch.dtype) -> list[Tensor]:
    """Fresh copies of what a gradient may be taken of."""
    return [part.detach().clone().to(dtype).requires_grad_() for part in (x, *nets[:3])]


def both(x: Tensor, index: Tensor, rows: Tensor, nets: WeightNets, dtype: torch.dtype,
         training: bool) -> list[tuple[Tensor, Tensor]]:
    """Pooled sums and all gradients, by the op in a dtype and by the equations in float64."""
    segments, results = 9, []
    for by_op, kind in ((True, dtype), (False, torch.float64)):
        x_leaf, *parts = leaves(x, nets, kind)
        own = WeightNets(*parts, nets.stats.to(kind))
        y = (asam_pool(x_leaf, index, segments, own, point_to_row=rows, training=training)[0] if by_op
             else by_the_equations(x_leaf, index, segments, own, rows, training))
        upstream = random(*y.shape, seed=7).to(kind)
        results.append([y.detach(), *torch.autograd.grad(y, [x_leaf, *parts], upstream)])
    return list(zip(*results))


@pytest.fixture(params=["plain", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kernels of this instruction set, or of the best that the machine has below it."""
    monkeypatch.setenv("PC3D_ISA", request.param)
    return request.param


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [3, 16, 32, 33, 64])
def test_float32_agrees_with_the_equations_both_ways(channels: int, training: bool, isa: str) -> None:
    for got, expected in both(*make_case(channels), make_nets(channels), torch.float32, training):
        assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [3, 32, 129])
def test_float64_agrees_with_the_equations_to_the_last_digits(channels: int, training: bool) -> None:
    for got, expected in both(*make_case(channels), make_nets(channels), torch.float64, training):
        assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    x, index, rows = make_case(8)
    nets, half = make_nets(8), x.to(dtype).requires_grad_()
    wide = half.detach().float().requires_grad_()
    got, expected = (asam_pool(v, index, 9, nets, point_to_row=rows, training=True)[0] for v in (half, wide))
    assert torch.equal(got, expected.to(dtype))
    got.float().square().sum().backward()
    expected.square().sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad.float(), wide.grad, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_right_and_taken_once(training: bool) -> None:
    x, index, rows = make_case(3, points=30, rows=20, segments=5)
    parts, stats = leaves(x + 0.01 * random(20, 3, seed=9), make_nets(3), torch.float64), make_nets(3).stats

    def pool(*values: Tensor) -> Tensor:
        return asam_pool(values[0], index, 5, WeightNets(*values[1:], stats), point_to_row=rows, training=training)[0]

    assert torch.autograd.gradcheck(pool, parts)
    (first,) = torch.autograd.grad(pool(*parts).square().sum(), parts[0], create_graph=True)
    with pytest.raises(DataError, match="differentiated once"):
        first.sum().backward()


def op_arguments(channels: int, dtype: torch.dtype) -> tuple[Any, ...]:
    x, index, rows = make_case(channels)
    entries = REFERENCES["asam_entries"](rows, index, len(x), 9)
    return x.to(dtype), *entries, *make_nets(channels), len(index)


def meaningful(outputs: tuple[Tensor, ...], used: int) -> list[Tensor]:
    """Outputs of asam_pool without what lies past the entries that are used, and without gates that pad a row."""
    *whole, logits, level, gates = outputs
    return [*whole, logits[:, :used], level, gates[:, :used]]


@pytest.mark.skipif(not has_kernel("asam_pool"), reason="native library not built")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [1, 5, 32])
def test_kernels_agree_with_the_references(channels: int, training: bool) -> None:
    x, *rest = op_arguments(channels, torch.float64)
    index, rows = make_case(channels)[1:]
    for kernel, reference in zip(torch.ops.pc3d.asam_entries(rows, index, len(x), 9), rest[:6]):
        assert torch.equal(kernel, reference)
    mode = (training, EPS)
    used = int(rest[3][-1])
    assert used < len(index)
    outputs = REFERENCES["asam_pool"](x, *rest, *mode)
    for kernel, reference in zip(meaningful(torch.ops.pc3d.asam_pool(x, *rest, *mode), used), meaningful(outputs, used)):
        torch.testing.assert_close(kernel, reference)
    pooled, _, *saved = outputs
    by_row, by_row_offsets, _ = REFERENCES["segment_group"](rest[0], len(x) + 1)
    arguments = (random(*pooled.shape, seed=8), x, *rest[:-1], pooled, *saved, by_row, by_row_offsets, rest[-1], *mode)
    for kernel, reference in zip(torch.ops.pc3d.asam_pool_grad(*arguments), REFERENCES["asam_pool_grad"](*arguments)):
        torch.testing.assert_close(kernel, reference)


def test_superpoints_of_any_size_agree_with_the_equations_in_evaluation(isa: str) -> None:
    x, index, rows = make_case(32, points=6000, rows=5000)  # one is too large to be pooled at once
    nets = make_nets(32)
    got = asam_pool(x.float(), index, 9, nets, point_to_row=rows)[0]
    expected = by_the_equations(x, index, 9, nets, rows, training=False)
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("training", [True, False])
def test_results_are_the_same_bits_for_any_number_of_threads(training: bool, isa: str) -> None:
    x, index, rows = make_case(32, points=6000, rows=5000)
    nets, results, before = make_nets(32), [], torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        parts = leaves(x, nets, torch.float32)
        y, stats = asam_pool(parts[0], index, 9, WeightNets(*parts[1:], nets.stats), point_to_row=rows, training=training)
        results.append([y, stats, *torch.autograd.grad(y.square().sum(), parts)])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_statistics_are_those_of_the_points() -> None:
    x, index, rows = make_case(6)
    nets = make_nets(6)
    stats = asam_pool(x, index, 9, nets, point_to_row=rows, training=True)[1]
    points = x[rows]
    first = (segment_pool(points, index, 9, "max")[index] - points) @ nets.weights[1, 0].T + nets.norms[1, 0, 0]
    torch.testing.assert_close(stats[1, 0], torch.stack([first.mean(0), first.var(0, unbiased=False)]))
    torch.testing.assert_close(asam_pool(x, index, 9, nets, point_to_row=rows)[1], nets.stats)


def test_rows_shared_by_points_are_as_good_as_copies() -> None:
    x, index, rows = make_case(32)
    nets = make_nets(32)
    shared = asam_pool(x, index, 9, nets, point_to_row=rows, training=True)
    copied = asam_pool(x[rows], index, 9, nets, training=True)
    torch.testing.assert_close(shared, copied)


def test_an_empty_superpoint_gives_zero_and_one_point_itself() -> None:
    x, nets = random(4, 5).requires_grad_(), make_nets(5)
    pooled = asam_pool(x, torch.tensor([0, 0, 0, 2]), 4, nets)[0]
    assert torch.equal(pooled[[1, 3]], torch.zeros(2, 10, dtype=torch.float64))
    torch.testing.assert_close(pooled[2], x[3].repeat(2))
    pooled[2].sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[0.0], [0], [0], [2]], dtype=torch.float64).expand(4, 5))


def test_the_first_of_many_maxima_takes_the_gradient_of_the_maximum() -> None:
    x, nets = torch.zeros(200, 4, dtype=torch.float64).requires_grad_(), make_nets(4)
    index = torch.zeros(200, dtype=torch.int64)
    with torch.no_grad():
        x[10:] -= random(190, 4).abs()
    for rows in (None, torch.arange(200).flip(0)):  # entries are in the order of points, not of rows
        got, expected = (torch.autograd.grad((y * random(1, 8)).sum(), x)[0] for y in (
            asam_pool(x, index, 1, nets, point_to_row=rows)[0],
            by_the_equations(x, index, 1, nets, torch.arange(200) if rows is None else rows, False)))
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_stays_in_its_superpoint_and_reaches_all_through_batch_statistics(dtype: torch.dtype, isa: str) -> None:
    x, index, rows = make_case(16)
    bad = x.to(dtype)
    bad[rows[index == 4][0], 3] = NAN
    touched = torch.zeros(9, dtype=torch.bool)
    touched[index[bad[rows].isnan().any(1)]] = True
    pooled = asam_pool(bad, index, 9, make_nets(16), point_to_row=rows)[0]
    assert torch.equal(pooled.isnan().all(1), touched)
    assert torch.equal(pooled.isnan().any(1), touched)
    trained, stats = asam_pool(bad, index, 9, make_nets(16), point_to_row=rows, training=True)
    assert stats.isnan().all()
    assert trained[:8].isnan().all()
    assert not trained[8].any()


@pytest.mark.parametrize("training", [True, False])
def test_no_points_and_no_superpoints_work(training: bool) -> None:
    none, nets = torch.zeros(0, dtype=torch.int64), make_nets(3)
    x = torch.zeros(0, 3, requires_grad=True)
    pooled = asam_pool(x, none, 2, nets, training=training)[0]
    assert torch.equal(pooled, torch.zeros(2, 6))
    pooled.sum().backward()
    assert asam_pool(torch.zeros(5, 3), none, 0, nets, point_to_row=none, training=training)[0].shape == (0, 6)


def test_training_keeps_a_twentieth_of_what_the_steps_keep() -> None:
    x, index, rows = make_case(32, points=20000, rows=20000)
    parts, nets, kept = leaves(x, make_nets(32), torch.float32), make_nets(32), []
    for run in (lambda own: asam_pool(parts[0], index, 9, own, point_to_row=rows, training=True)[0],
                lambda own: by_the_equations(parts[0], index, 9, own, rows, True)):
        storages: dict[int, int] = {}

        def pack(t: Tensor, storages: dict[int, int] = storages) -> Tensor:
            if t.data_ptr() != parts[0].data_ptr():  # the input lives in any case
                storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            run(WeightNets(*parts[1:], nets.stats.float()))
        kept.append(sum(storages.values()))
    assert kept[0] <= 0.05 * kept[1]


@pytest.mark.parametrize(("change", "words"), [
    ({"index": torch.tensor([0, 1, 2, -1])}, "got -1"),
    ({"index": torch.tensor([0, 1, 2, 3])}, r"got 3; expected ids in \[0, 3\)"),
    ({"index": torch.tensor([0, 1, 2])}, "point_to_row does not fit"),
    ({"index": torch.zeros(4, dtype=torch.int32)}, "int32"),
    ({"point_to_row": torch.tensor([0, 1, 2, 5])}, "point_to_row out of range"),
    ({"point_to_row": None}, "index does not fit"),
    ({"x": torch.zeros(5, 2, dtype=torch.int64)}, "floating numbers"),
    ({"x": torch.zeros(5, 4)}, "weights does not fit x"),
])
def test_bad_input_is_refused_before_the_kernel(change: dict[str, Any], words: str) -> None:
    good = {"x": torch.zeros(5, 3), "index": torch.tensor([0, 1, 2, 0]), "point_to_row": torch.tensor([0, 1, 2, 4])}
    given = {**good, **change}
    with pytest.raises(DataError, match=words):
        asam_pool(given["x"], given["index"], 3, make_nets(3), point_to_row=given["point_to_row"])


@pytest.mark.skipif(not has_kernel("asam_pool"), reason="native library not built")
def test_the_kernel_itself_refuses_what_does_not_fit() -> None:
    x, *rest = op_arguments(4, torch.float32)
    with pytest.raises(ValueError, match="weights do not fit"):
        torch.ops.pc3d.asam_pool(x[:, :3], *rest, False, EPS)
    with pytest.raises(ValueError, match="equally long"):
        torch.ops.pc3d.asam_pool(x, rest[0][:-1], *rest[1:], False, EPS)
