"""Segmenting: order, tiny inputs, bad inputs."""

import re

import numpy as np
import pytest
import torch

from pc3d.data import collate, make_sample
from pc3d.engine import Segmenter, confident, segment
from pc3d.engine import precision as precisions
from pc3d.engine.device import choose_device
from pc3d.engine.precision import forward_in
from pc3d.errors import BackendError, ConfigError, DataError, FileError
from pc3d.io import read_result, write
from pc3d.models import build
from pc3d.structures import Instances, PointCloud
from pc3d.superpoints import compute_superpoints
from tests.engine.conftest import make_scan


@pytest.fixture
def segmenter(config):
    """An untrained network, of the first seed that finds anything at all."""
    scan, options = compute_superpoints(make_scan(3)), config.model.with_overrides(["inference.min_points=0"])
    for seed in range(20):
        torch.manual_seed(seed)
        segmenter = Segmenter(build(options), "cpu")
        if len(segmenter(scan).instances):
            break
    return segmenter


def test_prediction_follows_file_order(segmenter):
    cloud = compute_superpoints(make_scan(3))
    order = np.random.default_rng(0).permutation(len(cloud))
    straight, shuffled = segmenter(cloud).instances, segmenter(cloud[order]).instances
    assert len(straight) > 0
    assert np.array_equal(straight.point_masks[:, order], shuffled.point_masks)
    assert np.array_equal(straight.labels, shuffled.labels)


def test_superpoints_with_gaps_are_numbered_as_the_instances_count_them(segmenter):
    cloud = compute_superpoints(make_scan(3))
    straight, gappy = segmenter(cloud), segmenter(cloud.replace(superpoints=cloud.superpoints * 10**12 + 7))
    assert np.array_equal(straight.instances.bits, gappy.instances.bits)
    for found in (straight, gappy):     # images are lifted onto the superpoints of the cloud, and fused with those instances
        assert np.array_equal(found.cloud.superpoints, found.instances.point_to_superpoint)


def test_a_scan_larger_than_a_tile_gives_what_its_parts_give(segmenter):
    part = compute_superpoints(make_scan(3))
    part = part.replace(xyz=np.round(part.xyz * 1024) / 1024)       # so that no bit is lost 32 metres away
    two = PointCloud(xyz=np.concatenate([part.xyz, part.xyz + np.float32([32, 0, 0])]), rgb=np.tile(part.rgb, (2, 1)),
                     normals=np.tile(part.normals, (2, 1)),
                     superpoints=np.concatenate([part.superpoints, part.superpoints + part.superpoints.max() + 1]))
    def masks(instances, rows=slice(None)):
        on_rows = instances.point_masks[:, rows]
        return {mask.tobytes() for mask in on_rows[on_rows.any(axis=1)]}

    alone, tiled = segmenter(part).instances, Segmenter(segmenter.model, "cpu", tile=4)
    both = tiled(two).instances
    assert len(both) == 2 * len(alone) > 0
    assert masks(both, slice(len(part))) == masks(both, slice(len(part), None)) == masks(alone)
    order = np.random.default_rng(0).permutation(len(two))
    assert masks(both, order) == masks(tiled(two[order]).instances)
    whole = Segmenter(segmenter.model, "cpu", tile=0)
    assert whole.config.inference.tile is None


def test_tiles_too_thin_for_an_instance_are_not_looked_at(segmenter, monkeypatch):
    scan, seen = compute_superpoints(make_scan(3)), []
    tiled = Segmenter(build(segmenter.config.with_overrides(["inference.min_points=100"])), "cpu", tile=4)
    monkeypatch.setattr(tiled, "_find", lambda cloud, watch, find=tiled._find: seen.append(len(cloud)) or find(cloud, watch))
    far = PointCloud(xyz=np.concatenate([scan.xyz, [[90, 0, 0], [5e8, 3, 0]]]), rgb=np.pad(scan.rgb, ((0, 2), (0, 0))))
    assert tiled(far).instances.point_masks.shape[1] == len(far)
    assert seen == [len(scan)]
    millimetres = scan.replace(xyz=scan.xyz * 1000)
    assert len(tiled(millimetres).instances) == 0
    assert len(seen) == 2


@pytest.mark.parametrize("unit", [100.0, 1000.0])
def test_a_scan_that_is_not_in_metres_is_told_and_segmented_all_the_same(segmenter, recwarn, unit):
    scan = compute_superpoints(make_scan(3))
    assert segmenter(scan).cloud is not None
    assert segmenter(scan[:len(scan) // 100 * 100:100]).cloud is not None       # a hundredth of the points is thin, no more
    assert not recwarn.list
    found = segmenter(scan.replace(xyz=scan.xyz * unit, metadata={"file": "room.ply"}))
    assert len(found.cloud) == len(found.instances.to_labels()[0]) == len(scan)
    assert re.match(r"room\.ply: points lie so far apart .* m to themselves; got [\d,]+ points in \d+ x \d+ x \d+ m; "
                    r"expected metres\. docs/formats\.md", str(recwarn.pop(UserWarning).message))


def test_far_from_the_origin_gives_the_same_instances(segmenter):
    near = make_scan(3)
    far = PointCloud.from_world(near.xyz + np.array([500_000.0, 5_000_000.0, 100.0]), rgb=near.rgb)
    a, b = segmenter(compute_superpoints(near)).instances, segmenter(compute_superpoints(far)).instances
    assert np.array_equal(a.labels, b.labels)
    assert np.array_equal(a.point_masks, b.point_masks)


@pytest.mark.parametrize("points", [1, 2, 50])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_tiny_scans_give_instances_on_their_rows(segmenter, points, spread):
    cloud = PointCloud(xyz=np.random.default_rng(0).random((points, 3)) * spread)
    assert segmenter(cloud).instances.point_masks.shape[1] == points


def test_bf16_finds_about_the_same_and_says_it_in_float32(segmenter, monkeypatch):
    monkeypatch.setattr(precisions, "multiplies_bfloat16", lambda: True)
    cloud, model = compute_superpoints(make_scan(3)), segmenter.model
    half = Segmenter(model, "cpu", "bf16")
    batch = collate([make_sample(cloud, model.config)], model.config.backbone)
    with torch.inference_mode():
        exact, rounded = forward_in(model, batch, torch.float32), forward_in(model, batch, half.dtype)
    last = [output.layers[-1].class_logits for output in (exact, rounded)]
    for one, other in (last, (exact.memory[0][0], rounded.memory[0][0])):
        assert other.dtype == torch.float32
        assert 0 < (one - other).abs().max() < 0.05 * one.abs().max()
    assert half(cloud).instances.point_masks.shape[1] == len(cloud)


def test_precision_comes_from_the_config_or_from_the_caller_and_must_be_known(config, monkeypatch):
    monkeypatch.setattr(precisions, "multiplies_bfloat16", lambda: True)
    model = build(config.model.with_overrides(["inference.precision=bf16"]))
    assert Segmenter(model, "cpu").dtype == torch.bfloat16
    assert Segmenter(model, "cpu", "fp32").dtype == torch.float32
    with pytest.raises(ConfigError, match="unknown precision; got 'int3'"):
        Segmenter(model, "cpu", "int3")


def test_bf16_on_a_processor_that_would_emulate_it_is_float32_to_the_bit_and_says_so_once(segmenter, monkeypatch):
    monkeypatch.setattr(precisions, "multiplies_bfloat16", lambda: False)
    precisions.warn_of_float32.cache_clear()
    with pytest.warns(RuntimeWarning, match="no bfloat16 units.*runs in float32") as warned:
        half, again = (Segmenter(segmenter.model, "cpu", "bf16") for _ in range(2))
    assert len(warned) == 1
    assert half.dtype == again.dtype == torch.float32
    cloud = compute_superpoints(make_scan(3))
    assert np.array_equal(half(cloud).instances.scores, segmenter(cloud).instances.scores)
    assert precisions.type_of("bf16", torch.device("cuda")) == torch.bfloat16
    assert precisions.type_of("fp16", torch.device("cpu")) == torch.float16


def test_an_empty_scan_is_refused(segmenter):
    with pytest.raises(DataError, match="too few points"):
        segmenter(PointCloud(xyz=np.zeros((0, 3))))


def test_non_finite_points_are_named(segmenter):
    xyz = np.zeros((5, 3))
    xyz[3, 1] = np.nan
    with pytest.raises(DataError, match="row 3"):
        segmenter(PointCloud(xyz=xyz))


def test_two_calls_give_the_same_bits(segmenter):
    a, b = (segmenter(make_scan(1)).instances for _ in range(2))
    assert np.array_equal(a.bits, b.bits)
    assert np.array_equal(a.scores, b.scores)


def test_segment_writes_a_result_that_reads_back(config, tmp_path):
    from pc3d.models import save_model

    save_model(build(config.model), tmp_path / "model.safetensors")
    write(make_scan(0), tmp_path / "room.ply")
    result = segment(tmp_path / "room.ply", tmp_path / "out", model=tmp_path / "model.safetensors")
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"instances.ply", "instances.json", "instances.npz"}
    cloud, instances = read_result(tmp_path / "out")
    assert np.array_equal(cloud.xyz, make_scan(0).xyz)
    assert np.array_equal(instances.bits, result.instances.bits)


def test_what_is_no_scan_or_network_is_refused_with_what_makes_one():
    with pytest.raises(DataError, match=r"no path of a scan; got ndarray; .*PointCloud\.from_world"):
        segment(np.zeros((9, 3)))
    with pytest.raises(DataError, match=r"got str; expected a PointCloud\. pc3d\.read gives one"):
        Segmenter.from_pretrained(device="cpu")("room.ply")
    with pytest.raises(ConfigError, match=r"no network; got 'relation3d-synth'\. Segmenter\.from_pretrained"):
        Segmenter("relation3d-synth")
    with pytest.raises(ConfigError, match=r"^inference\.tile: Input should be greater than or equal to 1; got 0\.5$"):
        Segmenter.from_pretrained(tile=0.5)


def test_a_missing_scan_is_a_file_error():
    with pytest.raises(FileError):
        segment("no/such/room.ply")


def test_superpoints_and_normals_of_the_file_are_kept(segmenter):
    given = compute_superpoints(make_scan(3))
    without_normals = segmenter(given.replace(normals=None)).cloud
    assert np.array_equal(without_normals.superpoints, given.superpoints)
    assert without_normals.normals is not None


def test_confident_drops_what_better_instances_mostly_own():
    masks = np.array([[1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]], dtype=bool)
    shown = confident(Instances.from_masks(masks, [0, 0, 0], [0.9, 0.8, 0.7], ("a",)), 0.2)
    assert shown.scores.tolist() == pytest.approx([0.9])  # two of three, then half, are taken
    apart = confident(Instances.from_masks(masks[:, 2:], [0, 0, 0], [0.7, 0.8, 0.9], ("a",)), 0.2)
    assert len(apart) == 1


def test_confident_keeps_each_mask_once_under_its_best_class():
    masks = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
    found = Instances.from_masks(masks, [0, 1, 1, 0], [0.3, 0.9, 0.1, 0.5], ("a", "b"))
    shown = confident(found, 0.2)
    assert shown.labels.tolist() == [1, 0]
    assert shown.scores.tolist() == pytest.approx([0.9, 0.5])
    assert len(confident(found[:0])) == 0


@pytest.mark.parametrize("name", ["meta", "cuda:99", "cuda:x", "cuda:²", "cuda:", "cpu:", "gpu"])
def test_unknown_devices_are_refused(name):
    with pytest.raises(BackendError, match=name):
        choose_device(name)


def test_views_come_from_the_config_or_from_the_caller_and_are_quarter_turns(config, monkeypatch):
    model = build(config.model.with_overrides(["inference.views=3"]))
    seen = []
    monkeypatch.setattr(model, "forward", lambda batch, forward=model.forward: seen.append(batch.xyz) or forward(batch))
    cloud = compute_superpoints(make_scan(3))
    Segmenter(model, "cpu")(cloud)
    assert len(seen) == 3
    torch.testing.assert_close(seen[1][:, :2], -seen[0][:, :2], rtol=0, atol=1e-5)
    torch.testing.assert_close(seen[2][:, :2], seen[0][:, [1, 0]] * torch.tensor([-1, 1]), rtol=0, atol=1e-5)
    Segmenter(model, "cpu", views=1)(cloud)
    assert len(seen) == 4
    with pytest.raises(ConfigError, match="views"):
        Segmenter(model, "cpu", views=5)
