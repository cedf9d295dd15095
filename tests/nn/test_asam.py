import pytest
import torch

from pc3d.nn.asam import ASAM
from pc3d.nn.norm import synchronise_norms


def make(points: int = 40, superpoints: int = 6, channels: int = 4) -> tuple[ASAM, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    asam = ASAM(channels).double().eval()
    features = torch.randn(points, channels, generator=generator, dtype=torch.float64)
    ids = torch.cat([torch.arange(superpoints), torch.randint(0, superpoints, (points - superpoints,), generator=generator)])
    return asam, features, ids


def test_superpoint_is_the_softmax_weighted_sum_of_its_points() -> None:
    asam, features, ids = make()
    rows = []
    for s in range(6):
        own = features[ids == s]
        near_mean = asam.mean_weight(own.mean(dim=0) - own).softmax(dim=0)
        near_max = asam.max_weight(own.amax(dim=0) - own).softmax(dim=0)
        rows.append(asam.merge(torch.cat([(near_mean * own).sum(dim=0), (near_max * own).sum(dim=0)])))
    torch.testing.assert_close(asam(features, ids, 6), torch.stack(rows))


def test_order_of_points_does_not_matter() -> None:
    asam, features, ids = make()
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(asam(features[order], ids[order], 6), asam(features, ids, 6))


def test_superpoint_of_equal_points_pools_to_that_point() -> None:
    asam, features, _ = make()
    same = features[:1].expand(5, -1)
    torch.testing.assert_close(asam(same, torch.zeros(5, dtype=torch.int64), 1), asam.merge(features[:1].repeat(1, 2)))


def test_both_weights_and_the_points_learn() -> None:
    asam, features, ids = make()
    features.requires_grad_()
    asam.train()(features, ids, 6).square().sum().backward()
    assert features.grad is not None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in asam.parameters())
    assert asam.mean_weight[0].weight.grad.abs().sum() > 0
    assert asam.max_weight[0].weight.grad.abs().sum() > 0


def test_one_op_and_the_steps_are_the_same_in_training_and_after_it() -> None:
    one, features, ids = make(points=300)
    steps, _, _ = make(points=300)
    results = []
    for asam, pool in ((one, one.in_one), (steps, lambda *a: steps.in_steps(*a[:3]))):
        asam.train()
        leaf = features.clone().requires_grad_()
        for _ in range(2):
            pooled = pool(leaf, ids, 6, None)
        pooled.square().sum().backward()
        asam.eval()
        gradients = [leaf.grad, asam.mean_weight[3].weight.grad, asam.max_weight[1].bias.grad]
        results.append([pooled, *gradients, pool(features, ids, 6, None), *asam.buffers()])
    for got, expected in zip(*results):
        torch.testing.assert_close(got, expected)


def test_points_of_a_voxel_share_its_features() -> None:
    asam, features, ids = make()
    to_voxel = torch.arange(40) // 2
    for training in (False, True):
        asam.train(training)
        torch.testing.assert_close(asam(features[:20], ids, 6, to_voxel), asam(features[to_voxel], ids, 6))


def test_norms_over_several_processes_take_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asam, features, ids = make()
    synchronise_norms(asam)
    expected = asam(features, ids, 6)  # evaluation needs nobody else
    monkeypatch.setattr(asam, "in_steps", lambda points, index, count: expected.new_zeros(count, 8))
    assert torch.equal(asam(features, ids, 6), expected)
    assert torch.equal(asam.train()(features, ids, 6), asam.merge(torch.zeros(6, 8, dtype=torch.float64)))


def test_a_single_point_in_training_leaves_the_running_statistics() -> None:
    asam, features, _ = make()
    before = [b.clone() for b in asam.buffers()]
    one = torch.zeros(1, dtype=torch.int64)
    torch.testing.assert_close(asam.train()(features[:1], one, 1), asam.merge(features[:1].repeat(1, 2)))
    assert all(torch.equal(a, b) for a, b in zip(asam.buffers(), before))
