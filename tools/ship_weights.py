"""``python tools/ship_weights.py SRC NAME CONFIG``: put a trained network into the package, its matrices in half precision.

SRC is a name or a .safetensors file; NAME one of the names in pc3d/weights/__init__.py; CONFIG says how it infers.
"""

import sys
from pathlib import Path

import torch

from pc3d.config import load_config
from pc3d.models import load_model, save_model
from pc3d.weights import MODELS, WEIGHTS


def ship(source: str, name: str, config: str) -> Path:
    """Write the network as ``pc3d/weights/<file of name>`` and return that path."""
    path, model = WEIGHTS / MODELS[name], load_model(source)
    model.config = model.config.model_copy(update={"inference": load_config(config).model.inference})
    save_model(model, path, dtype=torch.float16)
    return path


def main() -> int:
    if len(sys.argv) != 4 or sys.argv[2] not in MODELS:
        print(f"usage: {sys.argv[0]} SRC NAME CONFIG, where NAME is one of {', '.join(MODELS)}", file=sys.stderr)
        return 2
    path = ship(*sys.argv[1:])
    print(f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
