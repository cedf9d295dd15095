"""What a run says of itself."""

import io
import json
import sys
import types
from pathlib import Path

import pytest
import torch

from pc3d.engine import train
from pc3d.engine.guard import Guard
from pc3d.engine.logging import Logger, MetricsLog, StepLine, clock, memory
from pc3d.errors import BackendError, DataError

CPU = torch.device("cpu")


def test_the_log_is_json_that_every_parser_reads(tmp_path):
    log = MetricsLog(tmp_path)
    log.write("train", {"loss": float("nan"), "ap50": {"a": float("inf"), "b": 0.5}, "epoch": 1})
    line = json.loads(log.path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (line["loss"], line["ap50"], line["epoch"]) == (None, {"a": None, "b": 0.5}, 1)
    log.write("val", {"ap": 0.1})
    assert [record["ap"] for record in log.read("val")] == [0.1]


def test_a_resumed_log_forgets_what_came_after_the_state(config, tmp_path):
    logger = Logger(config, tmp_path)
    logger.write("step", 1, {"loss": 3.0})
    size = logger.size
    logger.write("step", 2, {"loss": 2.0})
    assert [record["step"] for record in Logger(config, tmp_path, size=size).log.read("step")] == [1]


def test_a_resumed_log_that_was_removed_begins_anew(config, tmp_path):
    Logger(config, tmp_path, size=40).write("step", 1, {"loss": 3.0})
    assert [record["step"] for record in MetricsLog(tmp_path).read("step")] == [1]


def test_a_line_that_was_cut_off_is_passed_over(config, tmp_path):
    log = MetricsLog(tmp_path)
    log.write("step", {"step": 1})
    with log.path.open("a") as file:
        file.write('{"kind": "st')
    assert [record["step"] for record in log.read("step")] == [1]


def test_only_the_first_process_writes(config, tmp_path):
    Logger(config, tmp_path, active=False).write("step", 1, {"loss": 3.0})
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_the_scalars_of_each_kind(config, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = Logger(config.with_overrides(["train.log_to=[tensorboard]"]), tmp_path)
    for step in (1, 2):
        logger.write("step", step, {"loss": 3.0 / step, "scans": {"a": 1}})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Tags()["scalars"] == ["step/loss"]
    assert [(event.step, event.value) for event in events.Scalars("step/loss")] == [(1, 3.0), (2, 1.5)]


def test_wandb_gets_the_config_and_every_record_under_one_id(config, tmp_path, monkeypatch):
    calls = []
    run = types.SimpleNamespace(log=lambda numbers, step: calls.append((step, numbers)))
    module = types.SimpleNamespace(init=lambda **settings: (calls.append(settings), run)[1])
    monkeypatch.setitem(sys.modules, "wandb", module)
    for _ in range(2):
        Logger(config.with_overrides(["train.log_to=[wandb]"]), tmp_path).write("val", 7, {"ap": 0.25})
    assert (calls[0]["name"], calls[0]["resume"], calls[0]["config"]["train"]["epochs"]) == (tmp_path.name, "allow", 2)
    assert calls[0]["id"] == calls[2]["id"]
    assert calls[1] == calls[3] == (7, {"val/ap": 0.25})


def test_a_service_that_is_not_installed_is_named_before_anything_is_done(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(BackendError, match=r"train\.log_to=\[tensorboard\] needs .*\.\[train\]"):
        train(config.with_overrides(["train.log_to=[tensorboard]"]))
    assert not Path(config.train.output).exists()


def test_the_step_line_shows_losses_times_memory_and_what_is_left(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    line = StepLine(CPU, steps=10, done=2)
    line.start -= 60
    line.show(4, {"loss": 1.5, "lr": 2e-4, "data_seconds": 0.25, "seconds": 0.5})
    assert "step: 4/10" in terminal.getvalue()
    assert "loss 1.500  lr 2.0e-04  data 0.25 s  step 0.50 s" in terminal.getvalue()
    assert "GiB  3 min 00 s left" in terminal.getvalue()
    assert clock(3 * 3600 + 125) == "3 h 02 min"
    assert memory(CPU) > 2**20


def test_a_loss_that_is_not_finite_changes_nothing_and_too_many_stop_the_run():
    model = torch.nn.BatchNorm1d(2)
    guard = Guard(model, limit=3)
    before = model.running_mean.clone()
    for _ in range(2):
        guard.remember()
        model(torch.full((4, 2), float("nan")))
        assert not guard.passes(float("nan"), 1.0, lambda: ["a.ply"])
        assert torch.equal(model.running_mean, before)
    assert guard.passes(1.0, 1.0, lambda: [])
    for _ in range(2):
        assert not guard.passes(1.0, float("inf"), lambda: ["a.ply"])
    with pytest.raises(DataError, match=r"scans a\.ply, b\.ply: .*3 steps in a row; got loss inf.*Lower train\.lr"):
        guard.passes(float("inf"), 1.0, lambda: ["a.ply", "b.ply"])
