"""``pc3d train``: train a network from a config."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
pc3d synth data/synth --rooms 200
pc3d synth data/synth --rooms 20 --split val --seed 1000
pc3d train configs/relation3d_synth.yaml
pc3d train configs/relation3d_synth.yaml train.lr=1e-4 train.epochs=10 train.output=runs/try
pc3d train configs/relation3d_synth.yaml --resume
pc3d train configs/relation3d_synth.yaml train.lr=1e-4 --show-config
torchrun --nproc-per-node 4 tools/train.py configs/relation3d_scannetv2.yaml train.batch_size=8
"""


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Experiment config (yaml).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="e.g. train.lr=1e-4")] = None,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in train.output, if there is one.")] = False,
    show_config: Annotated[bool, typer.Option("--show-config", help="Print the resolved config and stop.")] = False,
) -> Path | None:
    """Train a network; the run folder gets config.yaml, metrics.jsonl, curves.png, training states, last and best weights."""
    from pc3d.config import load_config, to_yaml

    experiment = load_config(config, overrides or [])
    if show_config:
        print(to_yaml(experiment), end="")
        return None
    from pc3d import engine, viz

    run = engine.train(experiment, resume=resume)
    if os.environ.get("RANK", "0") != "0":
        return run
    viz.write_png(run / "curves.png", viz.draw_run(run))
    print(f"run in {run}; use it with: pc3d segment SCAN -o out --model {run / 'best.safetensors'}")
    return run
