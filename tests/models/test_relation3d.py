import pytest
import torch

from pc3d.config import BackboneConfig, DecoderConfig, ModelConfig
from pc3d.errors import ConfigError
from pc3d.losses import Criterion
from pc3d.models import build
from pc3d.structures import PointBatch, Targets

CONFIG = ModelConfig(classes=("chair", "table"), backbone=BackboneConfig(channels=(8, 16)),
                     decoder=DecoderConfig(num_queries=6, d_model=16, num_heads=2, d_ffn=32, num_layers=2))


def make_batch(instances: tuple[int, ...] = (3, 0), points: int = 200, superpoints: int = 12) -> PointBatch:
    g = torch.Generator().manual_seed(0)
    scans = len(instances)
    xyz = 2 * torch.rand(scans * points, 3, generator=g)
    scan = torch.arange(scans).repeat_interleave(points)
    coords, point_to_voxel = torch.cat([scan[:, None], (xyz / 0.2).long()], dim=1).unique(dim=0, return_inverse=True)
    own = torch.arange(points) % superpoints
    targets = []
    for count in instances:
        owner = torch.arange(superpoints) % (count + 1) - 1
        targets.append(Targets(torch.arange(count) % 2, owner[None] == torch.arange(count)[:, None],
                               torch.rand(count, 3, generator=g), owner))
    starts = torch.arange(scans + 1)
    return PointBatch(xyz, torch.randn(scans * points, 9, generator=g), starts * points, coords.int(), point_to_voxel,
                      (16, 16, 16), torch.cat([own + b * superpoints for b in range(scans)]), starts * superpoints,
                      tuple(targets))


def test_full_network_has_the_published_parameters_less_the_dead_ones() -> None:
    with torch.device("meta"):
        model = build(ModelConfig(classes=tuple(map(str, range(18)))))
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_348_952 - 1_238_948
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) == 10_962_976


def test_every_parameter_gets_a_gradient_even_when_a_scan_is_empty() -> None:
    torch.manual_seed(0)
    model, batch = build(CONFIG), make_batch()
    assert batch.targets is not None
    losses = Criterion(CONFIG.loss, 2)(model(batch), batch.targets)
    losses["loss"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model, batch, criterion = build(CONFIG), make_batch((3,)), Criterion(CONFIG.loss, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for _ in range(12):
        losses = criterion(model(batch), batch.targets)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append(losses["loss"].item())
    assert history[-1] < 0.8 * history[0]


def test_row_order_of_points_does_not_matter() -> None:
    torch.manual_seed(0)
    model, batch = build(CONFIG).eval(), make_batch((3,))
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    shuffled = PointBatch(batch.xyz[order], batch.features[order], batch.offsets, batch.voxel_coords,
                          batch.point_to_voxel[order], batch.spatial_shape, batch.point_to_superpoint[order],
                          batch.superpoint_offsets)
    with torch.no_grad():
        torch.testing.assert_close(model(shuffled).layers[0].masks[0], model(batch).layers[0].masks[0], rtol=1e-4, atol=1e-4)


def test_mean_pooling_takes_the_place_of_asam() -> None:
    torch.manual_seed(0)
    model = build(CONFIG.with_overrides(["decoder.asam=false"]))
    assert model.asam is None
    assert len(model(make_batch()).layers) == 2


def test_superpoint_at_the_end_without_points_keeps_scans_apart() -> None:
    torch.manual_seed(0)
    batch = make_batch((3,))
    wider = PointBatch(batch.xyz, batch.features, batch.offsets, batch.voxel_coords, batch.point_to_voxel, batch.spatial_shape,
                       batch.point_to_superpoint, torch.tensor([0, 13]))
    assert build(CONFIG)(wider).layers[0].masks[0].shape == (6, 13)


@pytest.mark.parametrize(("change", "key"), [(["classes=[]"], "model.classes"), (["decoder.d_model=17"], "model.decoder")])
def test_impossible_network_names_the_key(change: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        build(CONFIG.with_overrides(change))
