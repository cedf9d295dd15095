"""Training and evaluation on a tiny dataset."""

import json
from pathlib import Path

import pytest
import torch

from pc3d.data import ScanDataset
from pc3d.engine import evaluate, train
from pc3d.engine.progress import MetricsLog
from pc3d.engine.train import Shuffle, make_trainer, poly_lr
from pc3d.errors import CheckpointError, ConfigError, FileError, FormatError
from pc3d.models import load_model


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


def test_poly_schedule_steps_once_per_epoch():
    assert poly_lr(2e-4, 1, 512, 0.9) == 2e-4
    assert poly_lr(2e-4, 512, 512, 0.9) == pytest.approx(2e-4 * (1 / 512) ** 0.9)


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
    config = config.with_overrides(["train.warmup_steps=10"])
    trainer = make_trainer(config, ScanDataset(config.data.root, "train"), Path(config.train.output))
    batch = next(trainer.batches(1))
    terms = trainer.step(batch, lr=1e-3)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)
    assert "semantic" not in terms


def test_semantic_loss_teaches_superpoint_classes(config):
    config = config.with_overrides(["model.loss.semantic=1.0", "train.epochs=8"])
    losses = [record["semantic"] for record in MetricsLog(train(config)).read("train")]
    assert losses[-1] < losses[0]


def test_every_epoch_sees_every_scan_in_its_own_order():
    shuffle = Shuffle(50, seed=3)
    first = list(shuffle)
    shuffle.epoch = 2
    second = list(shuffle)
    assert sorted(index for _, index in first) == sorted(index for _, index in second) == list(range(50))
    assert [index for _, index in first] != [index for _, index in second]
    assert list(shuffle) == second


def test_a_loader_worker_makes_the_same_batches(config):
    batches = []
    for workers in (0, 1):
        settings = config.with_overrides([f"data.workers={workers}", "augment.jitter=0.1"])
        trainer = make_trainer(settings, ScanDataset(config.data.root, "train"), Path(config.train.output))
        batches.append([batch.features for epoch in (1, 2) for batch in trainer.batches(epoch)])
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
    start = f"train.init={run / 'last.safetensors'}"
    trainer = make_trainer(config.with_overrides([start]), ScanDataset(config.data.root, "train"), run)
    weights = load_model(run / "last.safetensors").state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in trainer.model.state_dict().items())
    with pytest.raises(CheckpointError, match="num_queries"):
        make_trainer(config.with_overrides([start, "model.decoder.num_queries=9"]), ScanDataset(config.data.root, "train"), run)
