"""Saving and loading networks: weights in safetensors, everything else in a json file beside them.

``model.safetensors`` holds the tensors; ``model.json`` the config, the classes, the pc3d version and the sha256 of the
weights. Nothing that is loaded can run code.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from pc3d import __version__
from pc3d.config import ModelConfig, differences
from pc3d.config import build as build_config
from pc3d.errors import CheckpointError, FileError, explain
from pc3d.io.files import atomic_file
from pc3d.models.registry import SUFFIX, find_weights
from pc3d.models.relation3d import Relation3D, build


def save_model(model: Relation3D, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write ``<path>.safetensors`` and ``<path>.json``; a crash at any moment leaves a pair that loads.

    ``dtype`` stores weight matrices in that type, float16 for half the size; loading widens them again.
    The json goes first and still knows the weights it replaces, so the pair holds before and after the weights follow.
    """
    path = _weights_path(path)
    matrices = {name for name, parameter in model.named_parameters() if parameter.dim() > 1}  # not the Fourier matrices
    weights = write_tensors({name: tensor.detach().to("cpu", dtype if name in matrices else None).contiguous()
                             for name, tensor in model.state_dict().items()})
    record = {"format": "pc3d-model", "version": __version__, "sha256": hashlib.sha256(weights).hexdigest(),
              "classes": list(model.config.classes), "config": model.config.model_dump(mode="json")}
    path.parent.mkdir(parents=True, exist_ok=True)
    sidecar = path.with_suffix(".json")
    before = _record_before(sidecar, path)
    _replace(sidecar, _dump(record if before is None else {**record, "previous": before}))
    _replace(path, weights)
    if before is not None:
        _replace(sidecar, _dump(record))


def load_model(name_or_path: str | Path, device: str = "cpu") -> Relation3D:
    """Load a network by packaged name (``relation3d-synth``) or by path, in evaluation mode.

    Raises FileError if it is missing, CheckpointError if the weights are damaged or do not fit their config.
    """
    path, config, tensors = _read_model(name_or_path)
    model = build(config)
    load_weights(model, tensors, where=path)
    return model.to(device).eval()


#: What a network knows of its classes and nothing else.
CLASS_HEADS = ("decoder.heads.classes.2.", "semantic.")


def load_into(model: Relation3D, name_or_path: str | Path) -> tuple[str, ...]:
    """Start a network from the weights of another, all of them; return where their configs differ, one text per key.

    When it is for other classes, what tells them apart stays fresh.
    Raises FileError if there is no such network, CheckpointError naming the tensors that do not fit and the differences.
    """
    path, config, tensors = _read_model(name_or_path)
    found = tuple(f"{key}: {ours!r}, in the weights {theirs!r}" for key, ours, theirs in differences(model.config, config))
    if model.config.classes != config.classes:
        fresh = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(CLASS_HEADS)}
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(CLASS_HEADS)} | fresh
        found += (f"classes are others: {', '.join(fresh)} stay fresh",)
    try:
        load_weights(model, tensors, where=path)
    except CheckpointError as error:
        raise CheckpointError("\n".join([str(error), *(f"  model.{line}" for line in found)])) from None
    return found


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], *, where: object) -> None:
    """Copy tensors into a model; every name and shape must fit, and the error names those that do not."""
    wanted = model.state_dict()
    problems = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - wanted.keys()),
        "other shape": [f"{name} {tuple(tensors[name].shape)} instead of {tuple(wanted[name].shape)}" for name in sorted(wanted)
                        if name in tensors and tensors[name].shape != wanted[name].shape],
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {_first(names)}" for kind, names in problems.items() if names)
        raise CheckpointError(explain("the weights do not fit the network", where=where, got=listed,
                                      do="Load them with the config they were trained with."))
    model.load_state_dict(dict(tensors))


def read_foreign(path: str | Path) -> Any:
    """Read a torch file of other origin, tensors and plain containers only; nothing in it can run."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FileError(explain("cannot read the checkpoint", where=path, got=error.strerror)) from error
    except Exception as error:  # unpickling fails in many ways; whichever it was, the file is not what it should be
        # torch's own words advise to allow code: only the name of what the file wanted to run is taken from them
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        got = type(error).__name__ + (f", it wants {wanted[1]}" if wanted else "")
        raise CheckpointError(explain("not a torch checkpoint of tensors only", where=path, got=got,
                                      do="Where it was made, save the tensors alone, torch.save(model.state_dict(), file), "
                                         "and convert that; pc3d runs no code from a file.")) from None


def _read_model(name_or_path: str | Path) -> tuple[Path, ModelConfig, dict[str, Tensor]]:
    """Where a network lies, its config and its tensors."""
    path = find_weights(name_or_path)
    weights = _read(path)
    record = _record_of(path.with_suffix(".json"), hashlib.sha256(weights).hexdigest())
    config: ModelConfig = build_config(ModelConfig, record["config"], where=path.with_suffix(".json"))
    try:
        return path, config, read_tensors(weights)
    except SafetensorError as error:
        raise CheckpointError(explain("not a safetensors file", where=path, got=str(error))) from error


def _first(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _weights_path(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def _record_of(sidecar: Path, sha256: str) -> dict[str, Any]:
    """The sidecar entry that belongs to the weights with this hash."""
    try:
        record = json.loads(_read(sidecar))
        entries = [record, *([record["previous"]] if "previous" in record else [])]
        for entry in entries:
            if entry["sha256"] == sha256:
                return dict(entry)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(explain("not a pc3d model description", where=sidecar, got=repr(error))) from error
    raise CheckpointError(explain("the weights are not those this file describes", where=sidecar, got=f"sha256 {sha256}",
                                  expected=entries[0]["sha256"], do="Copy both files of the model again."))


def _record_before(sidecar: Path, weights: Path) -> dict[str, Any] | None:
    """The entry of the weights that are there, None where no pair is: after a crash while saving it is the previous one."""
    try:
        record = _record_of(sidecar, hashlib.sha256(_read(weights)).hexdigest())
    except (FileError, CheckpointError):
        return None
    return {key: value for key, value in record.items() if key != "previous"}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(explain("cannot read the model", where=path, got=error.strerror)) from error


def _dump(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()


def _replace(path: Path, content: bytes) -> None:
    with atomic_file(path) as file:
        file.write(content)
