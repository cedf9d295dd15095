"""Several processes train and evaluate as one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pc3d.config import to_yaml
from pc3d.engine import evaluate, train
from pc3d.engine.distributed import Processes, processes
from pc3d.engine.logging import MetricsLog
from pc3d.errors import BackendError, ConfigError

ROOT = Path(__file__).resolve().parents[2]


def curve(run: Path) -> torch.Tensor:
    return torch.tensor([[record["loss"], record["grad_norm"]] for record in MetricsLog(run).read("step")])


def run_two(tool: str, *arguments: str) -> str:
    """What a tool prints when torchrun starts it twice."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               str(ROOT / "tools" / tool), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def curve_in_float64(launcher: list[str], config: Path, out: Path) -> torch.Tensor:
    command = [sys.executable, *launcher, str(ROOT / "tests" / "engine" / "float64_curve.py"), str(config), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    return torch.tensor(json.loads(out.read_text()), dtype=torch.float64)


def test_in_float64_two_processes_take_the_steps_of_one_to_the_last_digits(config, tmp_path):
    """Float32 rounds differently in one process and in two; here nothing but a mistake could part the curves."""
    config = config.with_overrides(["train.epochs=4", "train.batch_size=4", "augment.jitter=0.1"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    alone, shared = (curve_in_float64(start, tmp_path / "config.yaml", tmp_path / f"{len(start)}.json")
                     for start in ([], launcher))
    assert alone.shape == (4, 2)
    torch.testing.assert_close(shared, alone, rtol=1e-9, atol=0)


def test_two_processes_give_the_loss_curve_and_the_ap_of_one(config, tmp_path):
    config = config.with_overrides(["train.epochs=3", "train.batch_size=4", "train.eval_every=3", "train.accumulate=1",
                                    "augment.jitter=0.1"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    alone = train(config.with_overrides([f"train.output={tmp_path / 'alone'}"]))
    said = run_two("train.py", str(tmp_path / "config.yaml"))
    torch.testing.assert_close(curve(tmp_path / "run"), curve(alone), rtol=2e-3, atol=0)
    shared = MetricsLog(tmp_path / "run").read("val")[-1]
    single = evaluate(config, tmp_path / "run" / "last.safetensors").to_dict()
    assert {key: shared[key] for key in single} == single
    assert "2 processes" in said
    checkpoint = str(tmp_path / "run" / "last.safetensors")
    folds = run_two("test.py", str(tmp_path / "config.yaml"), checkpoint, "data.val_split=train,val",
                    "--protocol", "s3dis", "--json")
    both = evaluate(config.with_overrides(["data.val_split='train,val'"]), checkpoint, protocol="s3dis").to_dict()
    assert json.loads(folds) == both
    assert both["mrec"] is not None


@pytest.mark.parametrize(("device", "error", "words"), [("cuda:0", ConfigError, "cannot share one device"),
                                                        ("cuda", BackendError, "got 1 GPUs; expected 2")])
def test_fewer_gpus_than_processes_are_named(monkeypatch, device, error, words):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=words), processes(device):
        pass


def test_one_process_sums_gathers_and_shares_with_itself():
    group = Processes(torch.device("cpu"))
    assert group.sum(torch.ones(2)).tolist() == [1, 1]
    assert group.gather("a") == ["a"]
    assert list(group.share(range(3))) == [0, 1, 2]
    assert list(Processes(torch.device("cpu"), 1, 2).share(range(5))) == [1, 3]
