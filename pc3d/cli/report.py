"""What a training run leaves to look at: the table of its best weights, curves, the best and the worst scan."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pc3d.config import ExperimentConfig

SCORES = ("ap", "ap50", "ap25")


def report_run(run: Path) -> list[Path]:
    """Print the AP table of the best evaluation of a run; draw its curves, and the scans its best weights do best and worst."""
    from pc3d import viz
    from pc3d.config import load_config
    from pc3d.engine.logging import MetricsLog

    viz.write_png(run / "curves.png", viz.draw_run(run))
    config = load_config(run / "config.yaml")
    log = MetricsLog(run)
    best = max(log.read("val"), key=lambda record: -1.0 if record["ap50"] is None else record["ap50"])
    print(f"\nvalidation after epoch {best['epoch']}, the best:\n{_table(best, config.model.classes)}")
    scans = next(record["ap50"] for record in log.read("val_scans") if record["epoch"] == best["epoch"])
    return [run / "curves.png", *_draw_extremes(run, config, scans)]


def _table(record: dict[str, Any], classes: tuple[str, ...]) -> str:
    from pc3d.metrics.report import text_table

    def number(key: str) -> float:
        return math.nan if record[key] is None else float(record[key])

    rows = [(name, [number(f"{score}/{name}") for score in SCORES]) for name in classes]
    return text_table([score.upper() for score in SCORES], rows, [number(score) for score in SCORES])


def _draw_extremes(run: Path, config: ExperimentConfig, ap50: dict[str, float | None]) -> list[Path]:
    """Pictures of the scans of highest and lowest AP50: scan, truth, prediction."""
    from pc3d import viz
    from pc3d.data import ScanDataset
    from pc3d.engine import Segmenter, confident

    scored = {name: value for name, value in ap50.items() if value is not None}
    if not scored:
        return []
    dataset = ScanDataset(config.data.root, config.data.val_split)
    segmenter = Segmenter.from_pretrained(run / "best.safetensors", config.train.device)
    paths = []
    for title, choose in (("best", max), ("worst", min)):
        name = choose(scored, key=lambda key: scored[key])
        cloud = dataset[[path.name for path in dataset.paths].index(name)]
        paths.append(run / f"{title}_{Path(name).stem}.png")
        viz.write_png(paths[-1], viz.draw_panels(cloud, confident(segmenter(cloud).instances)))
    return paths
