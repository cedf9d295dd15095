import math

import pytest
import torch
from torch import Tensor

from pc3d.errors import DataError
from pc3d.ops import relation_bias
from pc3d.ops._library import has_kernel
from pc3d.ops.relation_bias import _bias_reference, _grad_reference, relation

ISAS = ["plain", "avx2", "avx512"]
native = pytest.mark.skipif(not has_kernel("relation_bias"), reason="the native library was not built")


def arguments(count: int, heads: int = 8, waves: int = 32, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Boxes in a room, one of them without extent, and a projection."""
    g = torch.Generator().manual_seed(count)
    boxes = torch.cat([8 * torch.rand(count, 3, generator=g), 0.05 + 3 * torch.rand(count, 3, generator=g)], dim=1)
    boxes[-1, 3:] = 0
    drawn = (boxes, *(torch.randn(*shape, generator=g) for shape in ((6, waves), (heads, 2 * waves), (heads,))))
    return tuple(tensor.to(dtype) for tensor in drawn)


def test_relation_is_the_papers_formula() -> None:
    boxes = torch.tensor([[0.0, 0, 0, 1, 2, 4], [3, 0, -1, 2, 2, 2]], dtype=torch.float64)
    e = 1e-5
    expected = [math.log(3 / (1 + e) + 1), 0.0, math.log(1 / (4 + e) + 1),
                math.log((1 + e) / (2 + e)), 0.0, math.log((4 + e) / (2 + e))]
    torch.testing.assert_close(relation(boxes)[0, 1], torch.tensor(expected, dtype=torch.float64))


@native
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("count", "heads", "waves"), [(1, 1, 1), (17, 8, 32), (40, 4, 5), (33, 11, 8)])
def test_every_instruction_set_gives_the_reference(isa: str, count: int, heads: int, waves: int,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    exact = arguments(count, heads, waves)
    expected = _bias_reference(*exact)
    grad = torch.randn(heads, count, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected_grad = _grad_reference(grad, expected, *exact[:2])
    for dtype, angle in ((torch.float32, 1e-5), (torch.float64, 1e-14)):
        rounded = [tensor.to(dtype) for tensor in exact]
        # An angle of 2 pi 13 and more is only known to so many digits; the projection adds up 2 F of them.
        atol = angle * 2 * waves * float(exact[2].abs().max())
        torch.testing.assert_close(relation_bias(*rounded).double(), expected, rtol=0, atol=atol)
        got = torch.ops.pc3d.relation_bias_grad(grad.to(dtype), expected.to(dtype), *rounded[:2])
        torch.testing.assert_close(got.double(), expected_grad, rtol=0, atol=angle * count * count)


@native
@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_floats_are_no_further_from_the_truth_than_the_reference_in_floats(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC3D_ISA", isa)
    exact = arguments(100)
    rounded = [tensor.float() for tensor in exact]
    truth = _bias_reference(*exact)
    assert (relation_bias(*rounded) - truth).abs().max() < (_bias_reference(*rounded) - truth).abs().max()


def test_gradients_are_those_of_the_equations_and_reach_the_projection_only() -> None:
    boxes, gauss, weight, bias = arguments(6, heads=3, waves=4)
    leaves = [boxes.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()]
    relation_bias(boxes, gauss, weight, bias).square().sum().backward()
    assert leaves[0].grad is None
    got = [leaf.grad for leaf in leaves[1:]]
    expected = torch.autograd.grad(_bias_reference(boxes.detach(), gauss, weight, bias).square().sum(), leaves[1:])
    for one, other in zip(got, expected):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradcheck(lambda w, b: relation_bias(boxes, gauss, w, b), (weight, bias))


def test_number_of_threads_changes_no_bit() -> None:
    boxes, gauss, weight, bias = arguments(70, dtype=torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            w = weight.clone().requires_grad_()
            out = relation_bias(boxes, gauss, w, bias)
            out.sum().backward()
            results.append((out.detach(), w.grad))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_nothing_finite_comes_of_a_box_that_is_not() -> None:
    boxes, *rest = arguments(20, dtype=torch.float32)
    boxes[3, 0] = torch.nan
    out = relation_bias(boxes, *rest)
    assert bool(out[:, 3].isnan().all())
    assert bool(out[:, :, 3].isnan().all())
    assert not bool(out[:, 5, 6].isnan().any())


def test_half_types_are_computed_in_float32() -> None:
    drawn = [tensor.bfloat16() for tensor in arguments(9)]
    out = relation_bias(*drawn)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, relation_bias(*(tensor.float() for tensor in drawn)).bfloat16())


def test_what_does_not_fit_is_named() -> None:
    boxes, gauss, weight, bias = arguments(5)
    for bad, name in (((boxes[:, :5], gauss, weight, bias), "boxes"), ((boxes, gauss[:5], weight, bias), "gauss"),
                      ((boxes, gauss, weight[:, 1:], bias), "weight"), ((boxes, gauss, weight, bias.long()), "bias")):
        with pytest.raises(DataError, match=f"{name} does not fit"):
            relation_bias(*bad)
