from typing import Any

import pytest
import torch
from torch import Tensor

from pc3d.errors import DataError
from pc3d.ops import AttentionSide, PositionTables, relative_attention
from pc3d.ops._library import has_kernel
from pc3d.ops.relative_attention import _attention, _attention_reference

GRID = 0.25
SHAPES = [(1, 1, 1, 1, 1), (5, 7, 2, 4, 3), (33, 130, 8, 8, 4), (70, 41, 11, 5, 2), (100, 65, 4, 3, 6)]
native = pytest.mark.skipif(not has_kernel("relative_attention"), reason="the native library was not built")


def arguments(queries: int, keys: int, heads: int, channels: int, length: int, *, blocked: bool) -> list[Any]:
    """Rows, places and tables; places are whole sixteenths, so that no pair is near the edge of a bin in one type only."""
    g = torch.Generator().manual_seed(queries)
    rows = [torch.randn(count, heads * channels, generator=g) for count in (queries, queries, keys, keys, keys)]
    places = [torch.randint(0, 40, (count, 3), generator=g) / 16 for count in (queries, keys)]
    tables = [torch.randn(heads, channels, 6 * length, generator=g) for _ in range(3)]
    mask = torch.rand(queries, keys, generator=g) < 0.8
    mask[:, keys // 3:keys // 3 + 1] = keys > 2  # a key that nobody may look at
    mask[:, keys // 2] = False
    return [*rows[:2], places[0], *rows[2:], places[1], *tables, GRID, mask if blocked else None]


def cast(drawn: list[Any], dtype: torch.dtype = torch.float64) -> list[Any]:
    return [a.detach().to(dtype) if isinstance(a, Tensor) and a.is_floating_point() else a for a in drawn]


@native
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
@pytest.mark.parametrize("blocked", [False, True], ids=["open", "blocked"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_instruction_set_gives_the_reference(isa: str, blocked: bool, shape: tuple[int, ...],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    drawn = arguments(*shape, blocked=blocked)
    expected = _attention_reference(*cast(drawn))
    torch.testing.assert_close(_attention(*drawn).double(), expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@native
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_large_logits_that_come_late_and_distant_ones_do_not_overflow(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    drawn = arguments(33, 130, 2, 8, 3, blocked=False)
    for rows in (3, 4):
        drawn[rows] = drawn[rows] * torch.linspace(0, 60, 130)[:, None]
    expected = _attention_reference(*cast(drawn))
    torch.testing.assert_close(_attention(*drawn).double(), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@native
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_what_is_not_finite_shows(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    for row, spoiled in ((0, [4]), (3, range(9)), (6, [])):  # a query, a key, a place: any bin is as good for NaN
        drawn = arguments(9, 40, 2, 4, 3, blocked=False)
        drawn[row][4, 0] = torch.nan
        assert _attention(*drawn).isnan().any(dim=1).nonzero().flatten().tolist() == list(spoiled)
    drawn = arguments(9, 40, 2, 4, 3, blocked=True)
    drawn[-1][3] = True  # a query that may look nowhere
    assert _attention(*drawn).isnan().any(dim=1).nonzero().flatten().tolist() == [3]


def public(drawn: list[Any]) -> Tensor:
    query, position, query_xyz, key, key_position, value, key_xyz, *tables, grid, blocked = drawn
    return relative_attention(AttentionSide(query, position, query_xyz), AttentionSide(key, key_position, key_xyz), value,
                              PositionTables(*tables), grid, blocked)


@pytest.mark.parametrize("blocked", [False, True], ids=["open", "blocked"])
def test_gradients_are_those_of_the_equations(blocked: bool) -> None:
    drawn = cast(arguments(5, 9, 2, 3, 2, blocked=blocked))
    learned = [0, 1, 3, 4, 5, 7, 8, 9]
    leaves = [drawn[i].requires_grad_() for i in learned]
    expected = torch.autograd.grad(_attention_reference(*drawn).square().sum(), leaves)
    single = cast(drawn, torch.float32)
    own = [single[i].requires_grad_() for i in learned]
    for got, one in zip(torch.autograd.grad(_attention(*single).square().sum(), own), expected):
        torch.testing.assert_close(got.double(), one, rtol=1e-4, atol=1e-4)
    assert torch.autograd.gradcheck(lambda *given: _attention_reference(*given, *drawn[10:]), tuple(drawn[:10]))


def test_number_of_threads_changes_no_bit() -> None:
    drawn, before, results = arguments(150, 200, 8, 8, 4, blocked=True), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(_attention(*drawn))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_half_types_are_computed_in_float32() -> None:
    drawn = arguments(9, 20, 2, 4, 3, blocked=True)
    half = cast(drawn, torch.bfloat16)
    read = public(half)
    assert read.dtype == torch.bfloat16
    assert torch.equal(read, public(cast(half, torch.float32)).bfloat16())


def test_what_does_not_fit_is_named() -> None:
    for at, bad, name in ((1, torch.zeros(9, 7), "query.position"), (6, torch.zeros(19, 3), "key.xyz"),
                          (5, torch.zeros(20, 8).long(), "value"), (9, torch.zeros(2, 4, 17), "tables.value"),
                          (-1, torch.zeros(20, 9, dtype=torch.bool), "blocked")):
        drawn = arguments(9, 20, 2, 4, 3, blocked=True)
        drawn[at] = bad
        with pytest.raises(DataError, match=f"{name} does not fit"):
            public(drawn)
