"""Checkpoints of 2D models, from a folder or the Hugging Face hub; the one place that loads transformers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from pc3d.errors import BackendError, CheckpointError, ConfigError, FileError, explain, require_package
from pc3d.io.files import read_json
from pc3d.weights import CHECKPOINTS, WEIGHTS


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model ready to run, and what its preprocessor_config.json says."""

    model: Any
    settings: dict[str, Any]
    source: str

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return next(self.model.parameters()).device


def load(source: str, architecture: str, types: Collection[str], device: str = "cpu") -> Checkpoint:
    """Load a safetensors checkpoint of a named architecture; nothing in it is ever unpickled.

    ``source`` is a folder, a hub id, or a name in ``weights.CHECKPOINTS``; ``types`` are the model types that the config may
    name. Raises BackendError without transformers, CheckpointError for what is not there, is another model, or lacks weights.
    """
    require_package("transformers", extra="lift", purpose=f"running {architecture}")
    import transformers

    if source in CHECKPOINTS:
        with _quiet():      # or it warns that nobody tried a ResNet as a backbone
            return load(str(WEIGHTS / source), architecture, types, device)
    if not hasattr(transformers, architecture):
        raise BackendError(explain(f"this transformers does not know {architecture}", got=transformers.__version__,
                                   do="Install a newer one: pip install -U transformers"))
    found = _config(source).get("model_type")
    if found not in types:
        raise CheckpointError(explain("the checkpoint is of another model", where=source, got=found,
                                      expected=" or ".join(sorted(types))))
    try:
        # weights kept in half precision would otherwise make a model that computes in it, and refuses float32 images
        model, report = getattr(transformers, architecture).from_pretrained(source, use_safetensors=True, dtype=torch.float32,
                                                                            output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(explain("the checkpoint cannot be loaded", where=source, got=str(error).split("\n")[0][:300],
                                      expected="a folder with config.json and model.safetensors, or a hub id")) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CheckpointError(explain("the checkpoint lacks weights", where=source, got=f"no {', '.join(missing[:3])}",
                                      expected=f"all of {architecture}"))
    return Checkpoint(model.eval().requires_grad_(False).to(_device(device)), _settings(source), source)


def state(source: str) -> str:
    """Names, sizes and times of a checkpoint's files: other weights there are another model. Nothing of a hub id."""
    folder = WEIGHTS / source if source in CHECKPOINTS else Path(source)
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return " ".join(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no progress bars of transformers meanwhile."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _config(source: str) -> dict[str, Any]:
    content = _json_file(source, "config.json", needed=True)
    if content is None:
        raise _missing(source)
    return content


def _settings(source: str) -> dict[str, Any]:
    return _json_file(source, "preprocessor_config.json") or {}


def _missing(source: str, reason: str | None = None) -> CheckpointError:
    return CheckpointError(explain(
        "there is no checkpoint", where=source, got=reason, do="Without a network, give a folder.",
        expected=f"a folder with config.json, an id on the Hugging Face hub, or what ships: {', '.join(CHECKPOINTS)}"))


def _json_file(source: str, name: str, *, needed: bool = False) -> dict[str, Any] | None:
    """A json file of a checkpoint, None where it has none; where one that is needed is not had, CheckpointError says why."""
    from transformers.utils import cached_file

    if Path(source).exists():
        found: str | Path | None = Path(source) / name if (Path(source) / name).is_file() else None
    elif "/" not in source:     # an id has one: nobody needs to be asked
        raise _missing(source)
    else:
        try:
            found = cached_file(source, name, _raise_exceptions_for_missing_entries=needed)
        except (OSError, ValueError) as error:
            if needed:      # no network, no such id, a gated model: the hub's client tells them apart, and what to do
                raise _missing(source, " ".join(str(error).split())) from error
            return None
    if found is None:
        return None
    try:
        content = read_json(Path(found))
    except FileError as error:
        raise CheckpointError(str(error)) from error
    return content if isinstance(content, dict) else None


def tokenize(checkpoint: Checkpoint, texts: Sequence[str], length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Token ids and which of them are text (T, length), by the checkpoint's own tokenizer.

    Raises CheckpointError without a tokenizer that fits the model, ConfigError for a text that is too long.
    """
    import transformers

    source, words = checkpoint.source, "a tokenizer.json whose ids the model knows"
    if _json_file(source, "tokenizer.json") is None and _json_file(source, "vocab.json") is None:
        raise CheckpointError(explain("the checkpoint has no tokenizer", where=source, expected=words))   # or it would be empty
    try:
        tokens = transformers.AutoTokenizer.from_pretrained(source)(list(texts), padding="max_length", max_length=length)
    except Exception as error:      # of many kinds, from a library that raises plain Exception
        raise CheckpointError(explain("the tokenizer cannot be used", where=source, got=str(error)[:200])) from error
    ids = tokens["input_ids"]
    for text, row in zip(texts, ids):
        if len(row) > length:
            raise ConfigError(explain("the text is too long for the model", got=f"{text!r}: {len(row)} tokens",
                                      expected=f"up to {length}"))
    if (largest := max(map(max, ids))) >= vocabulary:
        raise CheckpointError(explain("the tokenizer is another model's", where=source, got=f"token {largest}",
                                      expected=f"below {vocabulary}"))
    return torch.tensor(ids, device=checkpoint.device), torch.tensor(tokens["attention_mask"], device=checkpoint.device)


def prepare(rgb: Tensor, size: tuple[int, int], padded: tuple[int, int], mean: Collection[float],
            std: Collection[float]) -> Tensor:
    """Pixel values (1, 3, H, W) of an image (h, w, 3) uint8: resized to ``size``, normalised, zeros up to ``padded``."""
    values = rgb.permute(2, 0, 1)[None].float() / 255
    values = interpolate(values, size=size, mode="bilinear", antialias=True, align_corners=False)
    low, high = (torch.tensor(tuple(one), device=values.device).reshape(1, 3, 1, 1) for one in (mean, std))
    return pad((values - low) / high, (0, padded[1] - size[1], 0, padded[0] - size[0]))
