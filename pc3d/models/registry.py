"""Names of networks that ship with pc3d."""

from __future__ import annotations

from pathlib import Path

from pc3d.errors import FileError, explain

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"

#: Name -> file in pc3d/weights.
MODELS = {
    "relation3d-synth": "relation3d-synth.safetensors",
}


def find_weights(name_or_path: str | Path) -> Path:
    """Path of a network given by packaged name or by path; FileError lists the known names."""
    path = Path(name_or_path)
    if path.is_file():
        return path
    packaged = MODELS.get(str(name_or_path))
    if packaged is not None and (WEIGHTS / packaged).is_file():
        return WEIGHTS / packaged
    what = "no such model file" if packaged is None else "this packaged model is missing from the installation"
    raise FileError(explain(what, where=name_or_path, expected=f"a .safetensors file or one of: {', '.join(MODELS)}"))
