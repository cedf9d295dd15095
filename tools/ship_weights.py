"""``python tools/ship_weights.py SRC NAME``: put a trained network into the package, its matrices in half precision.

SRC is a name or a .safetensors file; NAME one of the names in pc3d/weights/__init__.py.
"""

import sys
from pathlib import Path

import torch

from pc3d.models import load_model, save_model
from pc3d.weights import MODELS, WEIGHTS


def ship(source: str, name: str) -> Path:
    """Write the network as ``pc3d/weights/<file of name>`` and return that path."""
    path = WEIGHTS / MODELS[name]
    save_model(load_model(source), path, dtype=torch.float16)
    return path


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[2] not in MODELS:
        print(f"usage: {sys.argv[0]} SRC NAME, where NAME is one of {', '.join(MODELS)}", file=sys.stderr)
        return 2
    path = ship(*sys.argv[1:])
    print(f"wrote {path}: {path.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
