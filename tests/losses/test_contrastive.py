import math

import pytest
import torch

from pc3d.config import LossConfig
from pc3d.losses import contrastive
from pc3d.losses.contrastive import contrastive_loss, scan_loss, state_loss
from pc3d.structures import Targets


def target(instances: list[int]) -> Targets:
    nothing = torch.zeros(0, dtype=torch.int64)
    return Targets(nothing, torch.zeros(0, len(instances), dtype=torch.bool), torch.zeros(0, 3), torch.tensor(instances))


def test_alike_inside_and_opposite_outside_costs_nothing() -> None:
    features = torch.tensor([[1.0, 0], [2, 0], [-1, 0]])
    assert float(scan_loss(features, torch.tensor([0, 0, 1]), "ignore")) == pytest.approx(0, abs=1e-6)


def test_loss_is_the_mean_cross_entropy_of_all_pairs() -> None:
    features, instances = torch.tensor([[1.0, 0], [1, 1], [0, 1]]), torch.tensor([0, 0, 1])
    half = (1 + math.sqrt(0.5)) / 2  # similarity of neighbours at 45 degrees
    pairs = 2 * -math.log(half) + 2 * -math.log(1 - half) + 2 * -math.log(0.5)
    assert float(scan_loss(features, instances, "ignore")) == pytest.approx(pairs / 9, abs=1e-5)


def test_unlabelled_superpoints_are_one_instance_or_unknown_to_each_other() -> None:
    features, instances = torch.tensor([[1.0, 0], [-1, 0], [0, 1]]), torch.tensor([-1, -1, 0])
    assert float(scan_loss(features, instances, "one_instance")) > 20  # two walls that differ cost the most there is
    assert float(scan_loss(features, instances, "ignore")) == pytest.approx(4 * math.log(2) / 5, abs=1e-5)


def test_scan_without_instances_costs_nothing_and_has_a_gradient() -> None:
    features = torch.randn(4, 3, requires_grad=True)
    loss = scan_loss(features, torch.full((4,), -1), "ignore")
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_scans_count_alike_and_never_meet() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(5, 3, generator=generator), torch.randn(9, 3, generator=generator)
    targets = (target([0, 0, 1, 1, -1]), target([0, 0, 0, 1, 1, 2, 2, -1, -1]))
    alone = [scan_loss(f, t.superpoint_instances, "ignore") for f, t in zip((first, second), targets)]
    torch.testing.assert_close(state_loss([first, second], targets, "ignore"), sum(alone) / 2)


@pytest.mark.parametrize(("states", "weights"), [("distinct", (1, 1)), ("all", (2, 3))])
def test_unrefined_states_count_again_only_when_asked(states: str, weights: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = [torch.randn(5, 3, generator=generator)], [torch.randn(5, 3, generator=generator)]
    targets = (target([0, 0, 1, 1, -1]),)
    config = LossConfig().model_copy(update={"contrastive_states": states})
    expected = weights[0] * state_loss(first, targets, "ignore") + weights[1] * state_loss(second, targets, "ignore")
    torch.testing.assert_close(contrastive_loss([first, first, second, second, second], targets, config), expected)


def test_zero_features_stay_finite() -> None:
    features = torch.zeros(3, 2, requires_grad=True)
    scan_loss(features, torch.tensor([0, 0, 1]), "ignore").backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("unlabelled", ["ignore", "one_instance"])
def test_tiles_are_exact_and_nothing_has_the_size_of_all_pairs(unlabelled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    instances = torch.randint(-1, 5, (50,), generator=generator)
    results, largest = {}, 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    for tile in (50, 7):
        monkeypatch.setattr(contrastive, "TILE", tile)
        leaf, largest = features.clone().requires_grad_(), 0
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = scan_loss(leaf, instances, unlabelled)
        loss.backward()
        results[tile] = (loss.detach(), leaf.grad)
        assert largest <= features.numel()
    for one, other in zip(results[50], results[7]):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-15)
