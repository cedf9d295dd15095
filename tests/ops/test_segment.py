"""Segment reductions: their conventions by hand-made answers, and the kernels held to the references."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pc3d.errors import DataError
from pc3d.ops import Groups, group_segments, segment_expand, segment_pool, segment_softmax
from pc3d.ops._library import REFERENCES, has_kernel

NAN = float("nan")
X = torch.tensor([[1.0, 2.0], [3.0, NAN], [3.0, 0.0], [-5.0, -1.0], [2.0, 1.0]])
INDEX = torch.tensor([0, 0, 0, 2, 4])
E2 = math.e**2


def rows(count: int, channels: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def skewed(count: int, num_segments: int) -> Tensor:
    """99 % of the rows in segment 1, the last segment empty."""
    generator = torch.Generator().manual_seed(1)
    anywhere = torch.randint(0, num_segments - 1, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.99, 1, anywhere)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(("reduce", "expected"), [
    ("sum", [[7, NAN], [0, 0], [-5, -1], [0, 0], [2, 1]]),
    ("mean", [[7 / 3, NAN], [0, 0], [-5, -1], [0, 0], [2, 1]]),
    ("max", [[3, NAN], [0, 0], [-5, -1], [0, 0], [2, 1]]),
    ("softmax", [[(1 + 6 * E2) / (1 + 2 * E2), NAN], [0, 0], [-5, -1], [0, 0], [2, 1]]),  # shares exp(x - 1) of the first
])
def test_empty_segments_give_zero_and_nan_stays_nan(reduce: str, expected: list[list[float]]) -> None:
    torch.testing.assert_close(segment_pool(X, INDEX, 5, reduce), torch.tensor(expected), equal_nan=True)


@pytest.mark.parametrize(("reduce", "expected"), [
    ("sum", [[1, 1], [1, 1], [1, 1], [1, 1], [1, 1]]),
    ("mean", [[1 / 3, 1 / 3], [1 / 3, 1 / 3], [1 / 3, 1 / 3], [1, 1], [1, 1]]),
    ("max", [[0, 0], [1, 1], [0, 0], [1, 1], [1, 1]]),  # rows 1 and 2 tie at 3: the lower takes all
])
def test_gradients_follow_the_conventions(reduce: str, expected: list[list[float]]) -> None:
    x = X.clone().requires_grad_()
    segment_pool(x, INDEX, 5, reduce).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor(expected, dtype=torch.float32))


def test_the_first_of_many_nan_and_of_many_equal_rows_is_taken_across_tiles() -> None:
    x = torch.zeros(1000, 1)
    groups = group_segments(torch.zeros(1000, dtype=torch.int64), 1)
    assert torch.ops.pc3d.segment_max(x, *groups)[1].item() == 0
    x[300:] = NAN
    value, row = torch.ops.pc3d.segment_max(x, *groups)
    assert value.isnan().all()
    assert row.item() == 300


def test_softmax_sums_to_one_in_every_segment_and_shifts_away() -> None:
    x, index = rows(500, 3), torch.randint(0, 9, (500,), generator=torch.Generator().manual_seed(2))
    y = segment_softmax(x, index, 12)
    torch.testing.assert_close(segment_pool(y, index, 12, "sum")[:9], torch.ones(9, 3))
    torch.testing.assert_close(segment_softmax(x + 1000, index, 12), y, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(y[index == 4], torch.softmax(x[index == 4], 0))


@pytest.mark.parametrize("channels", [1, 3, 7, 32, 33, 129])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make_index", [skewed, lambda n, s: torch.arange(n) * 7919 % s], ids=["skewed", "even"])
def test_kernels_agree_with_the_references(channels: int, dtype: torch.dtype, make_index) -> None:
    x = rows(1500, channels, dtype).round(decimals=1)
    groups = group_segments(make_index(1500, 11), 11)
    for kernel, reference in zip(groups[1:], REFERENCES["segment_group"](groups.segment, 11)):
        assert torch.equal(kernel, reference)
    for kernel, reference in zip(torch.ops.pc3d.segment_max(x, *groups), REFERENCES["segment_max"](x, *groups)):
        assert torch.equal(kernel, reference)
    exact = REFERENCES["segment_sum"](x.double(), *groups).to(dtype)
    torch.testing.assert_close(torch.ops.pc3d.segment_sum(x, *groups), exact, rtol=1e-5, atol=1e-4)
    y = rows(11, channels, dtype)
    assert torch.equal(torch.ops.pc3d.segment_expand(y, *groups), y[groups.segment])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduce", ["mean", "max", "sum", "softmax"])
def test_half_types_accumulate_in_float32(dtype: torch.dtype, reduce: str) -> None:
    x = rows(3000, 2, dtype).abs().requires_grad_()  # a running float16 or bfloat16 sum would stall long before the end
    index = skewed(3000, 4)
    wide = x.detach().float().requires_grad_()
    y, expected = segment_pool(x, index, 4, reduce), segment_pool(wide, index, 4, reduce)
    assert y.dtype == dtype
    assert torch.equal(y, expected.to(dtype))
    y.float().square().mean().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert segment_softmax(x, index, 4).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_of_softmax_and_expand_are_computed_in_float32_both_ways(dtype: torch.dtype) -> None:
    x, y, index = rows(3000, 2, dtype), rows(4, 2, dtype), skewed(3000, 4)
    for op, values in ((lambda v: segment_softmax(v, index, 4), x), (lambda v: segment_expand(v, index), y)):
        half, wide = values.clone().requires_grad_(), values.float().requires_grad_()
        upstream = rows(3000, 2, dtype, seed=5).abs()  # a running half sum of these would stall
        got, expected = op(half), op(wide)
        got.backward(upstream)
        expected.backward(upstream.float())
        assert torch.equal(got, expected.to(dtype))
        assert half.grad is not None
        assert wide.grad is not None
        torch.testing.assert_close(half.grad, wide.grad.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_nan_stays_in_its_segment_and_channel(dtype: torch.dtype) -> None:
    x, index = X.to(dtype), INDEX
    bad = torch.tensor([[False, True], [False, False], [False, False], [False, False], [False, False]])
    for reduce in ("mean", "max", "sum", "softmax"):
        assert torch.equal(segment_pool(x, index, 5, reduce).isnan(), bad)
    assert torch.equal(segment_softmax(x, index, 5).isnan(), bad[index])
    assert torch.equal(segment_expand(segment_pool(x, index, 5, "sum"), index).isnan(), bad[index])


@pytest.mark.parametrize("op", ["segment_sum", "segment_max"])
def test_kernels_and_references_agree_on_nan_and_infinity(op: str) -> None:
    x = rows(900, 3)
    x[::11, 0], x[5::13, 1], x[7::17, 2] = NAN, float("inf"), -float("inf")
    groups = group_segments(torch.arange(900) % 60, 61)
    got, expected = getattr(torch.ops.pc3d, op)(x, *groups), REFERENCES[op](x, *groups)
    torch.testing.assert_close(got, expected, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduce", ["mean", "max", "sum", "softmax"])
def test_pool_gradients_are_right_twice_over(reduce: str) -> None:
    x = rows(30, 3, torch.float64).requires_grad_()
    index = skewed(30, 5)
    assert torch.autograd.gradcheck(lambda v: segment_pool(v, index, 5, reduce), x)
    assert torch.autograd.gradgradcheck(lambda v: segment_pool(v, index, 5, reduce).square(), x)


def test_softmax_and_expand_gradients_are_right_twice_over() -> None:
    x, y = rows(30, 2, torch.float64).requires_grad_(), rows(5, 2, torch.float64).requires_grad_()
    index = torch.arange(30) * 7 % 4
    assert torch.autograd.gradcheck(lambda v: segment_softmax(v, index, 5), x)
    assert torch.autograd.gradgradcheck(lambda v: segment_softmax(v, index, 5), x)
    assert torch.autograd.gradcheck(lambda v: segment_expand(v, index), y)
    assert torch.autograd.gradgradcheck(lambda v: segment_expand(v, index).square(), y)


def test_renaming_segments_renames_the_result_and_shuffling_rows_keeps_it() -> None:
    x, index, shuffle = rows(800, 5), skewed(800, 6), torch.randperm(800, generator=torch.Generator().manual_seed(3))
    rename = torch.tensor([3, 0, 5, 1, 4, 2])
    for reduce in ("mean", "max", "sum", "softmax"):
        y = segment_pool(x, index, 6, reduce)
        assert torch.equal(segment_pool(x, rename[index], 6, reduce)[rename], y)
        torch.testing.assert_close(segment_pool(x[shuffle], index[shuffle], 6, reduce), y, rtol=1e-5, atol=1e-4)


def test_results_are_the_same_bits_for_any_number_of_threads() -> None:
    x, index = rows(20000, 33), skewed(20000, 50)
    results = []
    before = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        v = x.clone().requires_grad_()
        y = [segment_pool(v, index, 50, reduce) for reduce in ("mean", "max", "sum", "softmax")]
        y.append(segment_softmax(v, index, 50))
        sum(part.square().sum() for part in y).backward()
        results.append([*y, v.grad])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_softmax_pooling_weighs_rows_by_other_numbers() -> None:
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0], [7.0, 70.0]])
    weight = torch.tensor([[0.0], [math.log(3)], [5.0]])
    index = torch.tensor([0, 0, 2])
    torch.testing.assert_close(segment_pool(x, index, 3, "softmax", weight=weight), torch.tensor([[2.5, 25], [0, 0], [7, 70]]))
    torch.testing.assert_close(segment_pool(x, index, 3, "softmax", weight=weight.expand(3, 2)),
                               torch.tensor([[2.5, 25], [0, 0], [7, 70]]))
    for reduce, bad in (("mean", weight), ("softmax", weight[:2]), ("softmax", weight[:, 0])):
        with pytest.raises(DataError, match="weight does not fit"):
            segment_pool(x, index, 3, reduce, weight=bad)


def test_rows_that_are_not_contiguous_give_the_same(threads: int) -> None:
    x, index = rows(200, 8), skewed(200, 5)
    strided = x.t().contiguous().t()
    for reduce in ("mean", "max", "sum", "softmax"):
        assert torch.equal(segment_pool(strided, index, 5, reduce), segment_pool(x, index, 5, reduce))


def test_groups_made_once_serve_every_reduction() -> None:
    x, index = rows(300, 4), skewed(300, 7)
    groups = group_segments(index, 7)
    for reduce in ("mean", "max", "sum", "softmax"):
        assert torch.equal(segment_pool(x, index, 7, reduce, groups), segment_pool(x, index, 7, reduce))
    assert torch.equal(segment_softmax(x, index, 7, groups), segment_softmax(x, index, 7))


@pytest.mark.parametrize("reduce", ["mean", "max", "sum", "softmax"])
def test_no_rows_no_segments_and_no_channels_work(reduce: str) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert torch.equal(segment_pool(torch.zeros(0, 3), none, 2, reduce), torch.zeros(2, 3))
    assert segment_pool(torch.zeros(0, 3), none, 0, reduce).shape == (0, 3)
    assert segment_pool(torch.zeros(4, 0), torch.zeros(4, dtype=torch.int64), 2, reduce).shape == (2, 0)
    assert segment_softmax(torch.zeros(0, 3), none, 2).shape == (0, 3)


@pytest.mark.parametrize(("index", "words"), [
    (torch.tensor([0, -1, 1]), "got -1"), (torch.tensor([0, 1, 2]), r"got 2; expected ids in \[0, 2\)"),
    (torch.tensor([0, 1]), "does not fit x"), (torch.tensor([0, 1, 1], dtype=torch.int32), "int32"),
])
def test_bad_ids_are_refused_before_the_kernel(index: Tensor, words: str) -> None:
    for call in (lambda: segment_pool(torch.zeros(3, 2), index, 2), lambda: segment_softmax(torch.zeros(3, 2), index, 2)):
        with pytest.raises(DataError, match=words):
            call()


@pytest.mark.parametrize("call", [
    lambda groups: segment_expand(torch.ones(2, 1), torch.arange(2), groups),
    lambda groups: segment_pool(torch.ones(2, 1), torch.arange(2), 2, "sum", groups),
    lambda groups: segment_softmax(torch.ones(2, 1), torch.arange(2), 2, groups),
], ids=["expand", "pool", "softmax"])
@pytest.mark.parametrize("groups", [
    group_segments(torch.arange(1000), 1000), group_segments(torch.arange(3), 3), group_segments(torch.arange(2), 3),
    group_segments(torch.arange(3) % 2, 2), Groups(*(part.to("meta") for part in group_segments(torch.arange(2), 2))),
    group_segments(torch.arange(2), 2)._replace(order=torch.arange(2, device="meta")),
], ids=["of 1000", "of 3", "of more segments", "of more rows", "on another device", "half on another device"])
def test_groups_of_other_rows_are_refused_before_they_read_memory(call, groups: Groups) -> None:
    with pytest.raises(DataError, match="groups do not fit"):
        call(groups)


@pytest.mark.skipif(not has_kernel("segment_expand"), reason="native library not built")
def test_the_kernel_itself_refuses_groups_of_more_segments() -> None:
    with pytest.raises(ValueError, match="offsets"):
        torch.ops.pc3d.segment_expand(torch.ones(2, 1), *group_segments(torch.arange(1000), 1000))


def test_an_unknown_reduction_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="mean, max, sum or softmax"):
        segment_pool(torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64), 1, "median")  # type: ignore[arg-type]
