"""Training and evaluation on a tiny dataset."""

import json

import pytest
import torch

from pc3d.data import ScanDataset
from pc3d.engine import evaluate, train
from pc3d.engine.batches import Plan, load_batches
from pc3d.engine.distributed import Processes
from pc3d.engine.logging import MetricsLog
from pc3d.engine.run import open_data
from pc3d.engine.train import Trainer
from pc3d.errors import CheckpointError, ConfigError, FileError, FormatError
from pc3d.models import load_model

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


def test_other_classes_than_the_networks_are_refused(config, dataset, tmp_path):
    run = train(config.with_overrides(["train.epochs=1"]))
    other = tmp_path / "other"
    (other / "val").mkdir(parents=True)
    (other / "val" / "a.ply").write_bytes(next((dataset / "val").glob("*.ply")).read_bytes())
    (other / "classes.json").write_text(json.dumps(["cat"]))
    with pytest.raises(ConfigError, match="different classes"):
        evaluate(config.with_overrides([f"data.root={other}"]), run / "last.safetensors")


def test_a_missing_dataset_says_how_to_make_one(config, tmp_path):
    (tmp_path / "classes.json").write_text("[]")
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
        make_trainer(config.with_overrides(["model.decoder.num_queries=9"])).start_from(run / "last.safetensors")
