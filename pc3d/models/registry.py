"""Finding a network by its packaged name or its path."""

from __future__ import annotations

from pathlib import Path

from pc3d.errors import FileError, explain
from pc3d.weights import MODELS, WEIGHTS

SUFFIX = ".safetensors"


def find_weights(name_or_path: str | Path) -> Path:
    """Path of a network given by packaged name or by path; FileError lists the known names."""
    path = Path(name_or_path)
    if path.is_file() or (path.is_dir() and str(name_or_path) not in MODELS):
        return _checked(path)
    expected = f"a {SUFFIX} file or one of: {', '.join(MODELS)}"
    if str(name_or_path) not in MODELS:
        raise FileError(explain("no such model file", where=name_or_path, expected=expected))
    packaged = WEIGHTS / MODELS[str(name_or_path)]
    if not packaged.is_file():
        raise FileError(explain("this packaged model is missing from the installation", where=packaged,
                                do="Install pc3d again, or train a network of your own: "
                                   "pc3d train configs/relation3d_synth.yaml"))
    return packaged


def _checked(path: Path) -> Path:
    """The path of a model file, or FileError for what is none."""
    if path.is_dir():
        raise FileError(explain("this is a folder, not a model", where=path, expected=f"one {SUFFIX} file",
                                do=f"A training run keeps its network in {path / 'best.safetensors'}."))
    if path.suffix != SUFFIX:
        todo = "Turn released weights into one with: pc3d convert" if path.suffix in (".pth", ".pt", ".ckpt") else None
        raise FileError(explain("this is no model", where=path, expected=f"a {SUFFIX} file", do=todo))
    return path
