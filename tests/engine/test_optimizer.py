"""Rates, groups and averages."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from pc3d.config import TrainConfig
from pc3d.engine.optimizer import averaged, follow, make_optimizer, set_rate
from pc3d.engine.schedule import learning_rate
from pc3d.errors import ConfigError


def config(*overrides: str) -> TrainConfig:
    return TrainConfig().with_overrides(overrides)


def network() -> nn.ModuleDict:
    return nn.ModuleDict({"backbone": nn.Linear(3, 2), "decoder": nn.ModuleDict({"norm": nn.BatchNorm1d(2)})})


def test_poly_steps_once_per_epoch():
    train = config("lr=2e-4", "epochs=512")
    assert learning_rate(train, 0, 200) == learning_rate(train, 199, 200) == 2e-4
    assert learning_rate(train, 200, 200) == pytest.approx(2e-4 * (511 / 512) ** 0.9)
    assert learning_rate(train, 512 * 200 - 1, 200) == pytest.approx(2e-4 * (1 / 512) ** 0.9)


def test_cosine_falls_from_the_full_rate_after_warm_up_to_nothing():
    train = config("schedule=cosine", "lr=1.0", "epochs=10", "warmup_steps=20")
    rates = [learning_rate(train, step, 10) for step in range(101)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20] == pytest.approx(1)
    assert rates[60] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
    assert all(a > b for a, b in pairwise(rates[20:]))


def test_a_group_has_its_own_rate_and_decay_and_the_first_that_fits_counts():
    model = network()
    train = TrainConfig(weight_decay=0.05, groups=[{"prefix": "backbone.", "lr": 0.1, "weight_decay": 0.0}, {"prefix": "b"}])
    optimizer = make_optimizer(model, train)
    set_rate(optimizer, 2.0)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert {found[id(p)] for p in model["backbone"].parameters()} == {(0.2, 0.0)}
    assert {found[id(p)] for p in model["decoder"].parameters()} == {(2.0, 0.05)}


def test_a_group_of_rate_0_is_frozen_and_costs_no_gradient():
    model = network()
    optimizer = make_optimizer(model, TrainConfig(groups=[{"prefix": "backbone.", "lr": 0}]))
    assert not any(p.requires_grad for p in model["backbone"].parameters())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model["decoder"].parameters()))
    with pytest.raises(ConfigError, match="nothing is left to train"):
        make_optimizer(network(), TrainConfig(groups=[{"prefix": "backbone.", "lr": 0}, {"prefix": "decoder.", "lr": 0}]))


def test_decay_of_matrices_leaves_biases_and_norms_alone():
    model = network()
    optimizer = make_optimizer(model, config("decay=matrices"))
    decays = {p.dim(): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {1: 0.0, 2: 0.05}


def test_a_prefix_of_no_parameter_names_those_there_are():
    with pytest.raises(ConfigError, match=r"'bakbone\.'; expected for example one of backbone\., .*decoder\.norm\."):
        make_optimizer(network(), TrainConfig(groups=[{"prefix": "bakbone."}]))


def test_the_average_follows_parameters_slowly_and_buffers_at_once():
    model = network()
    average = averaged(model)
    start = model["backbone"].weight.detach().clone()
    with torch.no_grad():
        model["backbone"].weight += 1
        model["decoder"]["norm"].running_mean += 3
    follow(average, model, 0.9)
    torch.testing.assert_close(average["backbone"].weight, start + 0.1)
    assert torch.equal(average["decoder"]["norm"].running_mean, model["decoder"]["norm"].running_mean)
    assert not average["backbone"].weight.requires_grad
