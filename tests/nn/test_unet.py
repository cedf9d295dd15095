"""The backbone gives the released network's numbers, for its own rows, however they are ordered."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pc3d.config import BackboneConfig
from pc3d.errors import DataError
from pc3d.nn.norm import BatchNorm
from pc3d.nn.unet import UNet

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "relation3d_small_float64.json").read_text())["backbone"]
NAMES = Path(__file__).parent.parent / "golden" / "relation3d_state_dict.txt"
SMALL = BackboneConfig(channels=(8, 16, 24, 32, 40))


def golden_value(name: str, like: Tensor) -> Tensor:
    """Pseudo-random values of the golden run: u = 2 frac(sin(12.9898 (i+1) + 0.7233 (crc32(name) % 1000)) 43758.5453) - 1."""
    i = torch.arange(like.numel(), dtype=torch.float64)
    z = torch.sin((i + 1) * 12.9898 + zlib.crc32(name.encode()) % 1000 * 0.7233) * 43758.5453
    u = (2 * (z - z.floor()) - 1).view(like.shape)
    if name.endswith("running_var"):
        return 1 + 0.2 * u
    if like.ndim == 1:
        return float(name.endswith(".weight")) + 0.1 * u
    value = u * math.sqrt(3 * like.shape[0] / like.numel())
    return released_pointwise(value) if like.shape[1:4] == (1, 1, 1) else value


def released_pointwise(weight: Tensor) -> Tensor:
    """The golden run multiplied by the [out, 1, 1, 1, in] buffer of a 1x1 convolution read as [in, out]."""
    return weight.reshape(weight.shape[-1], weight.shape[0]).t().reshape(weight.shape)


def golden_input() -> tuple[Tensor, Tensor]:
    i = torch.arange(GOLDEN["n_voxels"])
    coords = torch.unique(torch.stack([i % 2, 7 * i % 17, (11 * i + i // 17) % 13, (5 * i + i // 29) % 19], 1), dim=0).int()
    row, k = torch.arange(len(coords), dtype=torch.float64)[:, None], torch.arange(9, dtype=torch.float64)
    return torch.sin(row * (0.21 + 0.13 * k) + k), coords


@pytest.fixture(scope="module")
def network() -> UNet:
    unet = UNet(9, SMALL).double().eval()
    state = unet.state_dict()
    unet.load_state_dict({name: golden_value(name, t) if t.is_floating_point() else t for name, t in state.items()})
    return unet


def assert_golden(name: str, value: Tensor) -> None:
    expected = GOLDEN[name]
    assert list(value.shape) == expected["shape"]
    assert value.sum().item() == pytest.approx(expected["sum"], abs=2e-9)
    assert value.abs().sum().item() == pytest.approx(expected["abs"], abs=2e-9)
    assert value.flatten()[:4].tolist() == pytest.approx(expected["first"], abs=2e-9)


def test_backbone_gives_the_golden_numbers(network: UNet) -> None:
    features, coords = golden_input()
    assert int(coords.sum()) == GOLDEN["coords_sum"]
    stages: dict[str, Tensor] = {}
    hooks = [network.input_conv[0].register_forward_hook(lambda m, a, y: stages.update(input_conv=y.features)),
             network.unet.register_forward_hook(lambda m, a, y: stages.update(unet=y.features))]
    stages["output_layer"] = network(features, coords, GOLDEN["spatial_shape"], 2)
    for hook in hooks:
        hook.remove()
    for name, value in stages.items():
        assert_golden(name, value)


def test_state_dict_has_the_released_names_and_shapes() -> None:
    released = {}
    for line in NAMES.read_text().splitlines():
        name, shape, _ = line.split("\t")
        if name.split(".")[0] in ("input_conv", "unet", "output_layer"):
            released[name] = tuple(int(n) for n in shape.strip("()").split(",") if n.strip())
    network = UNet(9, BackboneConfig())
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == released
    assert sum(p.numel() for p in network.parameters()) == 10_962_976


def test_row_i_of_the_output_belongs_to_row_i_of_the_input(network: UNet) -> None:
    features, coords = golden_input()
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(0))
    shuffled = network(features[order], coords[order], GOLDEN["spatial_shape"], 2)
    assert torch.equal(shuffled, network(features, coords, GOLDEN["spatial_shape"], 2)[order])


def test_a_scan_gives_the_same_alone_and_in_a_batch(network: UNet) -> None:
    features, coords = golden_input()
    first = coords[:, 0] == 0
    batch, alone = network(features, coords, (128,) * 3, 2), network(features[first], coords[first], (128,) * 3, 1)
    torch.testing.assert_close(batch[first], alone, rtol=0, atol=1e-12)


def test_input_gradients_match_finite_differences() -> None:
    features, coords = golden_input()
    network = UNet(2, BackboneConfig(channels=(2, 3), block_reps=1)).double().eval()
    x = features[:40, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda f: network(f, coords[:40], (128,) * 3, 2), x, nondet_tol=0, fast_mode=True)


def test_every_parameter_learns() -> None:
    features, coords = golden_input()
    network = UNet(9, SMALL).double()
    network(features, coords, (128,) * 3, 2).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("training", [True, False])
def test_tiny_scans_pass_in_training_and_evaluation(count: int, training: bool) -> None:
    features, coords = golden_input()
    network = UNet(9, SMALL).double().train(training)
    y = network(features[:count], coords[:count], (128,) * 3, 2)
    assert y.shape == (count, 8)
    assert bool(y.isfinite().all())
    y.sum().backward()


def test_norm_of_one_voxel_uses_and_keeps_the_running_statistics() -> None:
    norm = BatchNorm(3)
    before = norm.running_mean.clone()
    torch.testing.assert_close(norm(torch.ones(1, 3)), norm.eval()(torch.ones(1, 3)))
    assert torch.equal(norm.running_mean, before)


def test_bad_voxels_are_named() -> None:
    features, coords = golden_input()
    network = UNet(9, SMALL).double()
    with pytest.raises(DataError, match="coords"):
        network(features, coords[:, :3], (128,) * 3, 2)
    with pytest.raises(DataError, match="coords"):
        network(features, coords, (8,) * 3, 2)
