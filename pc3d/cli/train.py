"""``pc3d train``: train a network from a config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pc3d.cli.console import first_process, in_shell, say

EXAMPLES = """
pc3d synth data/synth --rooms 200
pc3d synth data/synth --rooms 20 --split val --seed 1000
pc3d train configs/relation3d_synth.yaml
pc3d train configs/relation3d_synth.yaml train.lr=1e-4 train.epochs=10 train.output=runs/try
pc3d train configs/relation3d_synth.yaml --dry-run
pc3d train configs/relation3d_synth.yaml --resume
pc3d train configs/relation3d_synth.yaml train.lr=1e-4 --show-config
torchrun --nproc-per-node 4 tools/train.py configs/relation3d_scannetv2.yaml train.batch_size=8
"""


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Experiment config (yaml).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="e.g. train.lr=1e-4")] = None,
    *,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in train.output, if there is one.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Try two steps and two scans, print memory and times.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Run some steps and print where their time goes.")] = False,
    show_config: Annotated[bool, typer.Option("--show-config", help="Print the resolved config and stop.")] = False,
) -> Path | None:
    """Train a network; the run folder gets its config, log, training states, last and best weights, curves and pictures."""
    from pc3d.config import load_config, to_yaml

    experiment = load_config(config, overrides or [])
    if show_config:
        print(to_yaml(experiment), end="")
    elif dry_run or profile:
        from pc3d.engine import trial

        lines = trial.profile(experiment) if profile else trial.dry_run(experiment).lines()
        say("\n".join(lines))
    else:
        from pc3d import engine

        run = engine.train(experiment, resume=resume)
        if first_process():
            from pc3d.cli.report import report_run

            pictures = ", ".join(path.name for path in report_run(run))
            print(f"\nall of it in {run}: best.safetensors, last.safetensors, metrics.jsonl, config.yaml, {pictures}\n"
                  f"use it with: pc3d segment SCAN -o out --model {in_shell(run / 'best.safetensors')}")
        return run
    return None
