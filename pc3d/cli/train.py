"""``pc3d train``: train a network from a config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
pc3d synth data/synth --rooms 200
pc3d synth data/synth --rooms 20 --split val --seed 1000
pc3d train configs/relation3d_synth.yaml
pc3d train configs/relation3d_synth.yaml train.lr=1e-4 train.epochs=10 train.output=runs/try
pc3d train configs/relation3d_synth.yaml train.lr=1e-4 --dry-run
"""


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Experiment config (yaml).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="e.g. train.lr=1e-4")] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and stop.")] = False,
) -> Path | None:
    """Train a network; the run folder gets config.yaml, metrics.jsonl, curves.png, and the last and best checkpoints."""
    from pc3d.config import load_config

    experiment = load_config(config, overrides or [])
    if dry_run:
        import yaml

        print(yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False), end="")
        return None
    from pc3d import engine, viz

    run = engine.train(experiment)
    viz.write_png(run / "curves.png", viz.draw_run(run))
    print(f"run in {run}; use it with: pc3d segment SCAN -o out --model {run / 'best.safetensors'}")
    return run
