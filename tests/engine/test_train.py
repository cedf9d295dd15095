"""Training and evaluation on a tiny dataset."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pc3d.data import ScanDataset
from pc3d.engine import evaluate, train
from pc3d.engine import precision as precisions
from pc3d.engine.batches import Plan, load_batches
from pc3d.engine.distributed import Processes
from pc3d.engine.evaluate import default_protocol
from pc3d.engine.logging import MetricsLog
from pc3d.engine.run import open_data
from pc3d.engine.state import load_state, states
from pc3d.engine.train import Trainer
from pc3d.errors import CheckpointError, ConfigError, DataError, FileError, FormatError
from pc3d.io import write
from pc3d.metrics import S3DIS_CLASSES_MASK3D, S3DIS_CLASSES_SOFTGROUP
from pc3d.models import load_model
from tests.engine.conftest import make_scan

SINGLE = Processes(torch.device("cpu"))


def make_trainer(config) -> Trainer:
    scans, _, config = open_data(config)
    return Trainer(config, scans, SINGLE)


def test_training_lowers_the_loss_and_leaves_checkpoints(config):
    config = config.with_overrides(["train.epochs=6", "train.eval_every=6"])
    run = train(config)
    losses = [record["loss"] for record in MetricsLog(run).read("train")]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert {"config.yaml", "metrics.jsonl", "last.safetensors", "best.safetensors"} <= {p.name for p in run.iterdir()}
    assert load_model(run / "last.safetensors").config.classes == ("box", "ball")
    assert 0 <= MetricsLog(run).read("val")[-1]["ap25"] <= 1


def test_same_seed_gives_the_same_weights(config, tmp_path):
    runs = [train(config.with_overrides([f"train.output={tmp_path / name}", "train.epochs=1"])) for name in "ab"]
    a, b = (load_model(run / "last.safetensors").state_dict() for run in runs)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_evaluation_of_a_checkpoint_equals_the_one_in_training(config):
    run = train(config)
    logged = MetricsLog(run).read("val")[-1]
    assert evaluate(config, run / "last.safetensors").ap50 == pytest.approx(logged["ap50"], abs=1e-12)


def test_an_unknown_protocol_is_refused(config):
    with pytest.raises(ConfigError, match="got 'kitti'; expected one of scannet, s3dis"):
        evaluate(config, "relation3d-synth", protocol="kitti")


@pytest.mark.parametrize(("classes", "protocol"), [(S3DIS_CLASSES_SOFTGROUP, "s3dis"), (S3DIS_CLASSES_MASK3D, "s3dis"),
                                                   (S3DIS_CLASSES_MASK3D[:12], "scannet"), (("bed", "chair"), "scannet")])
def test_the_classes_of_s3dis_bring_its_protocol_in_whatever_order(tmp_path, classes, protocol):
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    assert default_protocol(tmp_path) == protocol


def test_other_classes_than_the_networks_are_refused(config, dataset, tmp_path):
    run = train(config.with_overrides(["train.epochs=1"]))
    other = tmp_path / "other"
    (other / "val").mkdir(parents=True)
    (other / "val" / "a.ply").write_bytes(next((dataset / "val").glob("*.ply")).read_bytes())
    (other / "classes.json").write_text(json.dumps(["cat"]))
    with pytest.raises(ConfigError, match="different classes"):
        evaluate(config.with_overrides([f"data.root={other}"]), run / "last.safetensors")
    with pytest.raises(ConfigError, match="the config and the dataset name different classes"):
        evaluate(config.with_overrides(["model.classes=[box, sphere]"]), run / "last.safetensors")


def test_a_missing_dataset_says_how_to_make_one(config, tmp_path):
    (tmp_path / "classes.json").write_text('["box"]')
    with pytest.raises(FileError, match="pc3d synth"):
        train(config.with_overrides([f"data.root={tmp_path}"]))


def test_a_broken_class_list_is_named(config, tmp_path):
    (tmp_path / "classes.json").write_text("{")
    with pytest.raises(FormatError, match=r"classes\.json"):
        train(config.with_overrides([f"data.root={tmp_path}"]))


def test_the_rate_warms_up_and_the_semantic_loss_is_off_by_default(config):
    trainer = make_trainer(config.with_overrides(["train.warmup_steps=10", "train.lr=1e-3"]))
    record = next(trainer.steps())
    assert trainer.optimizer.param_groups[0]["lr"] == record["lr"] == pytest.approx(1e-4)
    assert "semantic" not in record


def test_semantic_loss_teaches_superpoint_classes(config):
    config = config.with_overrides(["model.loss.semantic=1.0", "train.epochs=8"])
    losses = [record["semantic"] for record in MetricsLog(train(config)).read("train")]
    assert losses[-1] < losses[0]


def test_a_loader_worker_makes_the_same_batches(config):
    batches = []
    for workers in (0, 1):
        settings = config.with_overrides([f"data.workers={workers}", "augment.jitter=0.1"])
        scans = ScanDataset(config.data.root, "train")
        plan = Plan.of(settings, len(scans), SINGLE)
        batches.append([batch.features for parts in load_batches(settings, scans, plan, 0) for batch in parts])
    assert len(batches[0]) == 4
    assert all(torch.equal(a, b) for a, b in zip(*batches))


def test_a_folder_with_a_run_is_not_written_over(config):
    config = config.with_overrides(["train.epochs=1"])
    train(config)
    with pytest.raises(FileError, match="holds a run already"):
        train(config)


def test_evaluation_uses_the_inference_settings_of_the_config(config):
    run = train(config.with_overrides(["train.epochs=6", "train.eval_every=6"]))
    strict = config.with_overrides(["model.inference.min_points=100000"])
    assert evaluate(strict, run / "last.safetensors").ap25 == 0


def test_training_starts_from_given_weights_only_if_they_fit(config):
    run = train(config.with_overrides(["train.epochs=1"]))
    trainer = make_trainer(config)
    trainer.start_from(run / "last.safetensors")
    weights = load_model(run / "last.safetensors").state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in trainer.model.state_dict().items())
    with pytest.raises(CheckpointError, match="num_queries"):
        train(config.with_overrides(["model.decoder.num_queries=9", f"train.init={run / 'last.safetensors'}",
                                     f"train.output={run}2"]))
    assert not Path(f"{run}2").exists()


def test_accumulated_gradients_are_those_of_the_whole_batch(config):
    grads = []
    for parts in (1, 2):
        trainer = make_trainer(config.with_overrides([f"train.accumulate={parts}", "train.batch_size=4"]))
        trainer.network.double().train()
        trainer.model.backbone.eval()  # batch norms see a part at a time, as documented: here they keep what they know
        trainer.model.asam.eval()
        batches = next(load_batches(trainer.config, trainer.scans, trainer.plan, 0))
        assert len(batches) == parts
        losses = trainer.backward([replace(part, xyz=part.xyz.double(), features=part.features.double()) for part in batches])
        grads.append((losses, {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}))
    (losses, whole), (summed, parts) = grads
    assert summed == pytest.approx(losses, rel=1e-9)
    for name, grad in whole.items():
        torch.testing.assert_close(parts[name], grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_like_full_precision(config, precision, monkeypatch):
    monkeypatch.setattr(precisions, "multiplies_bfloat16", lambda: True)  # slow where it does not, and right
    curves = []
    for name in ("fp32", precision):
        trainer = make_trainer(config.with_overrides([f"train.precision={name}"]))
        curves.append([record["loss"] for record in trainer.steps()])
        assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
    assert curves[0] != curves[1]
    assert curves[1] == pytest.approx(curves[0], rel=0.02)


def test_averaged_weights_are_evaluated_and_kept(config):
    run = train(config.with_overrides(["train.ema=0.5", "train.epochs=2"]))
    state = load_state(states(run)[-1])
    kept = load_model(run / "last.safetensors").state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in state["average"].items())
    assert not torch.equal(kept["decoder.norm.weight"], state["model"]["decoder.norm.weight"])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_run_whose_loss_stays_nan_stops_with_advice_and_the_names_of_the_scans(config, precision):
    trainer = make_trainer(config.with_overrides(["train.max_nonfinite=2", f"train.precision={precision}"]))
    weight = trainer.model.decoder.heads.classes[0].weight
    with torch.no_grad():
        weight[0, 0] = torch.nan
    steps = trainer.steps()
    assert math.isnan(next(steps)["loss"])
    with pytest.raises(DataError, match=r"scan0\d\.ply.*2 steps in a row.*Lower train\.lr"):
        next(steps)
    assert int(torch.isnan(torch.cat([p.detach().flatten() for p in trainer.model.parameters()])).sum()) == 1


def test_classes_that_differ_from_those_of_the_config_are_named_before_anything_is_done(config):
    with pytest.raises(ConfigError, match=r"first at number 1; got 'ball' of 2: box, ball; expected 'sphere' of 2"):
        train(config.with_overrides(["model.classes=[box, sphere]"]))
    assert not Path(config.train.output).exists()


@pytest.mark.parametrize("split", ["train", "val"])
def test_scans_without_labels_are_refused_before_anything_is_done(config, dataset, tmp_path, split):
    root = tmp_path / "unlabelled"
    shutil.copytree(dataset, root)
    path = sorted((root / split).glob("*.ply"))[0]
    write(make_scan(0).replace(labels=None, instances=None), path)
    with pytest.raises(FormatError, match="'label' and 'instance'"):
        train(config.with_overrides([f"data.root={root}"]))
    assert not Path(config.train.output).exists()
