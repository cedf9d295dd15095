"""A run that was stopped goes on to the bits of one that was not."""

import numpy as np
import pytest
import torch

from pc3d.engine import train
from pc3d.errors import ConfigError, FileError
from tests.engine.kill_and_resume import kill_by_event, outcome, same, start


@pytest.fixture
def long(config):
    """Four epochs with all that has a state: averaged weights, dropout, warm-up; saved at every step."""
    return config.with_overrides(["train.epochs=4", "train.save_steps=1", "train.ema=0.9", "train.warmup_steps=3",
                                  "model.decoder.dropout=0.1", "augment.jitter=0.1"])


def test_a_run_killed_at_random_events_ends_with_the_same_bits(long, tmp_path):
    whole = long.with_overrides([f"train.output={tmp_path / 'whole'}"])
    start(whole).join()
    killed = kill_by_event(long, 4, np.random.default_rng(1), most=30)
    start(long).join()
    assert killed == 4
    assert same(outcome(tmp_path / "run"), outcome(tmp_path / "whole"))


def test_resuming_what_was_not_begun_begins_it_and_what_is_done_is_left(config, tmp_path):
    run = train(config, resume=True)
    before = outcome(run)
    (run / "last.safetensors").unlink()  # as if a kill had come between the last state and the weights
    assert same(outcome(train(config, resume=True)), before)


def test_a_damaged_end_of_the_log_is_written_again(long):
    run = train(long.with_overrides(["train.epochs=2"]))
    before = outcome(run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "lo')
    train(long.with_overrides(["train.epochs=2"]), resume=True)
    assert same(outcome(run), before)


def test_the_folder_of_another_run_is_refused_by_name_of_the_keys(config):
    train(config.with_overrides(["train.epochs=1"]))
    with pytest.raises(ConfigError, match=r"another config(.|\n)*train\.lr: 0\.1, in the run 0\.002\n  train.seed: 3, in the"):
        train(config.with_overrides(["train.epochs=1", "train.lr=0.1", "train.seed=3"]), resume=True)


def test_more_epochs_than_the_run_was_to_have_are_a_run_that_begins_from_its_weights(config):
    run = train(config.with_overrides(["train.epochs=1"]))
    with pytest.raises(ConfigError, match=f"more epochs.*train.init={run / 'last.safetensors'}"):
        train(config.with_overrides(["train.epochs=2"]), resume=True)


def test_a_run_may_go_on_elsewhere_and_be_saved_otherwise(config, dataset, tmp_path):
    run = train(config.with_overrides(["train.epochs=1"]))
    run.rename(tmp_path / "moved")
    train(config.with_overrides(["train.epochs=1", f"train.output={tmp_path / 'moved'}", "data.workers=1", "train.keep=5"]),
          resume=True)


def test_a_folder_with_a_run_says_how_to_go_on(config):
    train(config.with_overrides(["train.epochs=1"]))
    with pytest.raises(FileError, match=r"holds a run already.*--resume"):
        train(config.with_overrides(["train.epochs=1"]))


def test_one_seed_gives_one_loss_curve_to_the_bit_in_deterministic_mode(config, tmp_path):
    options = ["train.epochs=10", "train.deterministic=true", "train.eval_every=10", "train.save_every=10",
               "model.decoder.dropout=0.1", "augment.jitter=0.1"]
    try:
        runs = [train(config.with_overrides([*options, f"train.output={tmp_path / name}"])) for name in "ab"]
    finally:
        torch.use_deterministic_algorithms(False)
    first, second = (outcome(run) for run in runs)
    assert len([record for record in first["log"] if record["kind"] == "step"]) == 20
    assert same(first, second)
