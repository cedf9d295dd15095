"""Training states on disk: all that a run needs to go on to the same bits.

``<run>/states/step-<number>-<hash>.pt`` is one torch file of tensors and plain values, loadable with ``weights_only=True``,
named after the step it was saved at and the first digits of its sha256. It appears whole (temporary file, fsync, rename,
fsync of the folder) or not at all, and one whose content is not what its name says is passed over for the one before.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pc3d.errors import CheckpointError, FileError, explain
from pc3d.io.files import atomic_file

FOLDER = "states"
NAME = re.compile(r"step-(\d{9})-([0-9a-f]{16})\.pt")

def save_state(run: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Write a training state and remove all but the newest ``keep``; raises FileError when the disk is full."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    content = buffer.getvalue()
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"step-{step:09d}-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    with atomic_file(path) as file:
        file.write(content)
    for old in states(run)[:-keep]:
        old.unlink(missing_ok=True)
    return path


def states(run: Path) -> list[Path]:
    """The training states of a run, oldest first."""
    folder = run / FOLDER
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name)) if folder.is_dir() else []


def newest_state(run: Path) -> dict[str, Any] | None:
    """The newest training state that is sound, None where there is none at all; warns of each damaged one.

    Raises CheckpointError when all are damaged.
    """
    paths = states(run)
    for path in reversed(paths):
        try:
            return load_state(path)
        except CheckpointError as error:
            warnings.warn(str(error), stacklevel=2)
    if paths:
        raise CheckpointError(explain("no training state of this run is sound", where=run / FOLDER, got=f"{len(paths)} damaged",
                                      do="Start again in another train.output; train.init may name the weights of this run."))
    return None


def load_state(path: Path) -> dict[str, Any]:
    """Read one training state; raises CheckpointError when its content is not what its name says, FileError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(explain("cannot read the training state", where=path, got=error.strerror)) from error
    named = NAME.fullmatch(path.name)
    found = hashlib.sha256(content).hexdigest()[:16]
    if named is None or named[2] != found:
        raise CheckpointError(explain("this training state is damaged", where=path, got=f"sha256 {found}...",
                                      expected="the digits in its name"))
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def random_state(device: torch.device) -> dict[str, Tensor]:
    """State of torch's generators; numpy's and Python's own are never drawn from."""
    state = {"cpu": torch.get_rng_state()}
    return state if device.type == "cpu" else {**state, "cuda": torch.cuda.get_rng_state(device)}


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Set torch's generators to where they were."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
