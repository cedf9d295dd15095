"""The engine spconv, where it is installed, gives the native engine's numbers from the same state dict."""

from __future__ import annotations

import pytest
import torch

from pc3d.config import BackboneConfig
from pc3d.errors import ConfigError
from pc3d.nn.sparse import engine
from pc3d.nn.unet import UNet

pytest.importorskip("spconv.pytorch", reason="spconv is not installed here")


def some_voxels(count: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(2 * 17 * 9 * 12, generator=generator)[:count]
    coords = torch.stack(torch.unravel_index(chosen, (2, 17, 9, 12)), 1).int()
    return torch.randn(count, 5, generator=generator, dtype=torch.float64), coords


@pytest.mark.parametrize("training", [True, False])
def test_both_engines_agree_forward_and_backward(training: bool) -> None:
    features, coords = some_voxels()
    configs = [BackboneConfig(channels=(4, 6, 8), engine=name) for name in ("native", "spconv")]
    networks = [UNet(5, config).double().train(training) for config in configs]
    networks[1].load_state_dict(networks[0].state_dict())
    results = []
    for network in networks:
        y = network(features, coords, (17, 9, 12), 2)
        results.append([y, *torch.autograd.grad(y.sin().sum(), list(network.parameters()))])
    for native, spconv in zip(*results):
        torch.testing.assert_close(native, spconv, rtol=1e-9, atol=1e-11)


def test_even_submanifold_kernels_are_refused() -> None:
    with pytest.raises(ConfigError, match="kernel_size"):
        engine("spconv").SubMConv3d(3, 3, 2)
