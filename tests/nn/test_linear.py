"""Linear layers are nn.Linear's to the last digits, whichever library multiplies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pc3d.nn import linear as module
from pc3d.nn.linear import Linear, linear


def make(bias: bool = True) -> Linear:
    torch.manual_seed(0)
    return Linear(48, 20, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 48), (2, 5, 48), (0, 48), (48,), (1, 48)])
@torch.no_grad()
def test_inference_agrees_with_torch(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = make(bias), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = nn.functional.linear(x.double(), layer.weight.double(), None if layer.bias is None else layer.bias.double())
    assert layer(x).dtype == torch.float32
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_rows_and_weights_may_lie_anyhow() -> None:
    x, weight = torch.randn(48, 9).T, torch.randn(48, 20).T
    torch.testing.assert_close(linear(x, weight), x @ weight.T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(linear(x[::2], weight[::2]), x[::2] @ weight[::2].T, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_torch() -> None:
    layer, x = make(), torch.randn(7, 48, requires_grad=True)
    own, theirs = (torch.autograd.grad(y.square().sum(), [x, layer.weight, layer.bias])
                   for y in (layer(x), nn.functional.linear(x, layer.weight, layer.bias)))
    assert all(torch.equal(a, b) for a, b in zip(own, theirs))


def test_autocast_and_other_types_stay_with_torch() -> None:
    layer, x = make(), torch.randn(7, 48)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.no_grad():
        assert layer.double()(x.double()).dtype == torch.float64
        with pytest.raises(RuntimeError):
            layer(x)


@pytest.mark.skipif(not module._HAS_ONEDNN, reason="this torch has no oneDNN")
def test_onednn_multiplies_at_inference_in_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    theirs = torch.nn.functional.linear

    def count(*arguments: Any) -> Tensor:
        called.append(1)
        return theirs(*arguments)

    monkeypatch.setattr(module.F, "linear", count)
    layer, x = make(), torch.randn(7, 48)
    with torch.no_grad():
        layer(x)
    assert not called
    layer(x)
    assert len(called) == 1
