"""Kill a tiny training run again and again, resume it each time, and compare it with one that was never stopped.

``python -m tests.engine.kill_and_resume --kills 30`` kills at random moments and at random events of the run (a step, a
write, an fsync, a rename), so that some kills fall into a save; the tests do a few of the latter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pc3d.config import ExperimentConfig
from pc3d.engine import train
from pc3d.engine.state import load_state, states

# Workers start as forks of a process that has imported torch but run nothing: at once, and without inherited threads.
SPAWN = multiprocessing.get_context("forkserver")
SPAWN.set_forkserver_preload(["pc3d.engine", "pc3d.models"])
EVENTS = ((os, "fsync"), (os, "replace"), (os, "unlink"), (torch.optim.AdamW, "step"), (torch, "save"), (json, "dumps"))


def _work(config: ExperimentConfig, die_at: int | None) -> None:
    """Train in a child process, which kills itself at the given event if there are so many."""
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    count = 0

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return call

    for owner, name in EVENTS if die_at is not None else ():
        setattr(owner, name, watched(getattr(owner, name)))
    train(config, resume=True)


def start(config: ExperimentConfig, die_at: int | None = None) -> BaseProcess:
    """Resume (or begin) the run of a config in another process."""
    process = SPAWN.Process(target=_work, args=(config, die_at))
    process.start()
    return process


def last_step(run: Path) -> int:
    """The last step that the log tells of, whole lines only."""
    text = (run / "metrics.jsonl").read_text() if (run / "metrics.jsonl").exists() else ""
    steps = [json.loads(line)["step"] for line in text.split("\n")[:-1]]
    return max(steps, default=0)


def check_nothing_is_lost(run: Path, save_steps: int) -> None:
    """A kill costs at most the steps since the last save, and every state that is there is sound."""
    saved = [load_state(path)["step"] for path in states(run)]
    assert last_step(run) - max(saved, default=0) <= save_steps


def kill_by_event(config: ExperimentConfig, kills: int, rng: np.random.Generator, most: int = 40) -> int:
    """Kill at random events; returns how many kills there were before the run came to its end."""
    for done in range(kills):
        process = start(config, die_at=int(rng.integers(1, most)))
        process.join()
        check_nothing_is_lost(Path(config.train.output), config.train.save_steps)
        if process.exitcode != -signal.SIGKILL:
            return done
    return kills


def kill_by_time(config: ExperimentConfig, kills: int, rng: np.random.Generator, longest: float) -> int:
    """Kill after random seconds; returns how many kills there were before the run came to its end."""
    for done in range(kills):
        process = start(config)
        time.sleep(rng.uniform(0, longest))
        process.kill()
        process.join()
        check_nothing_is_lost(Path(config.train.output), config.train.save_steps)
        if process.exitcode == 0:
            return done
    return kills


def outcome(run: Path) -> dict[str, Any]:
    """All that must be the same to the bit: weights, training state, and the log but for times."""
    state = load_state(states(run)[-1])
    for times in ("log_size", "totals"):
        state.pop(times)
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for record in log:
        for key in ("time", "seconds", "data_seconds"):
            record.pop(key, None)
    weights = {name: (run / name).read_bytes() for name in ("last.safetensors", "best.safetensors")}
    return {"state": state, "log": log, "weights": weights}


def same(a: Any, b: Any) -> bool:
    """Equality that looks into containers and compares tensors bit by bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def main() -> None:
    """Kill a run many times, half by event and half by time, and say whether it came out the same."""
    from tests.engine.conftest import make_config, write_dataset

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "data")
        settings = ["train.epochs=40", "train.save_steps=1", "train.eval_every=8", "train.ema=0.9", "model.decoder.dropout=0.1"]
        whole, broken = (make_config(Path(folder) / "data", Path(folder) / name).with_overrides(settings)
                         for name in ("whole", "broken"))
        began = time.monotonic()
        start(whole).join()
        seconds = time.monotonic() - began
        killed = {"by event": 0, "by time": 0}
        while sum(killed.values()) < options.kills:
            killed["by event"] += kill_by_event(broken, options.kills // 2 - killed["by event"], rng)
            killed["by time"] += kill_by_time(broken, options.kills - sum(killed.values()), rng, seconds / 6)
            start(broken).join()
            equal = same(outcome(Path(whole.train.output)), outcome(Path(broken.train.output)))
            print(f"{killed}: {'the same bits' if equal else 'DIFFERENT'} after {whole.train.epochs} epochs", flush=True)
            if not equal:
                raise SystemExit(1)
            broken = broken.with_overrides([f"train.output={broken.train.output}x"])


if __name__ == "__main__":
    main()
