import itertools

import torch

from pc3d.config import LossConfig
from pc3d.losses.matcher import _cost, match
from pc3d.structures import LayerOutput, Targets


def scene(instances: int, queries: int = 5, superpoints: int = 8, seed: int = 0) -> tuple[LayerOutput, Targets]:
    g = torch.Generator().manual_seed(seed)
    layer = LayerOutput(torch.randn(1, queries, 4, generator=g), torch.zeros(1, queries),
                        torch.randn(1, queries, 3, generator=g), [torch.randn(queries, superpoints, generator=g)])
    target = Targets(torch.randint(0, 3, (instances,), generator=g), torch.rand(instances, superpoints, generator=g) < 0.5,
                     torch.randn(instances, 3, generator=g), torch.zeros(superpoints, dtype=torch.int64))
    return layer, target


def test_matching_has_the_lowest_total_cost() -> None:
    layer, target = scene(3)
    cost = _cost(layer, 0, target, LossConfig())
    pairs = match(layer, (target,), LossConfig())[0]
    best = min(sum(cost[q, i] for i, q in enumerate(queries)) for queries in itertools.permutations(range(5), 3))
    torch.testing.assert_close(cost[pairs.queries, pairs.instances].sum(), best)


def test_each_instance_gets_one_query_of_its_own() -> None:
    layer, target = scene(3)
    pairs = match(layer, (target,), LossConfig())[0]
    assert sorted(pairs.instances.tolist()) == [0, 1, 2]
    assert len(set(pairs.queries.tolist())) == 3


def test_more_instances_than_queries_leave_some_unmatched() -> None:
    layer, target = scene(7)
    assert len(match(layer, (target,), LossConfig())[0].queries) == 5


def test_no_instances_match_nothing() -> None:
    layer, target = scene(0)
    assert len(match(layer, (target,), LossConfig())[0].queries) == 0


def test_infinite_predictions_are_matched_anyway() -> None:
    layer, target = scene(2)
    layer.centers[0, 0] = torch.nan
    assert len(match(layer, (target,), LossConfig())[0].queries) == 2
