import torch

from pc3d.nn.asam import ASAM


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
