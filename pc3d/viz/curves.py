"""Training curves as a picture, with no plotting library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FileError, explain
from pc3d.structures.palette import distinct_colors
from pc3d.viz.canvas import INK, RULE, SOFT_INK, blank, draw_line, draw_text, fill
from pc3d.viz.font import text_width
from pc3d.viz.render import BACKGROUND

Curve = tuple[Sequence[float], Sequence[float]]  # steps, values; of equal length

MARKED = 40  # values that a curve may have for each to be marked
LOSSES = ("loss", "cls", "bce", "dice", "center", "score", "contrastive", "semantic")
SCORES = ("ap", "ap50", "ap25")


def draw_curves(curves: dict[str, Curve], *, title: str = "", x_label: str = "", width: int = 720,
                height: int = 420) -> NDArray[np.uint8]:
    """Draw named curves over one pair of axes; returns (height, width, 3) uint8. Values that are not finite are skipped."""
    image = blank(width, height, BACKGROUND)
    size = max(8.0, width / 72)
    known = {name: _finite(curve) for name, curve in curves.items()}
    left, right, bottom = round(5.5 * size), width - round(2 * size), height - round(4.5 * size)
    top = round(1.6 * size + _legend(image, list(known), left, right, 4.4 * size, size))
    steps = np.concatenate([xy[:, 0] for xy in known.values()] or [np.zeros(0)])
    x_ticks = nice_ticks(steps, finest=1.0 if (steps == np.rint(steps)).all() else 0.0)
    y_ticks = nice_ticks(np.concatenate([xy[:, 1] for xy in known.values()] or [np.zeros(0)]))
    low, span = np.array([x_ticks[0], y_ticks[0]]), np.array([np.ptp(x_ticks), np.ptp(y_ticks)])
    corner, extent = np.array([left, bottom]), np.array([right - left, top - bottom])
    for tick in y_ticks:
        y = round(bottom + (tick - low[1]) / span[1] * extent[1])
        fill(image, left, y, right - left, 1, RULE)
        draw_text(image, f"{tick:g}", left - 0.7 * size, y + size / 2, size=0.9 * size, color=SOFT_INK, align="right")
    for tick in x_ticks:
        x = left + (tick - low[0]) / span[0] * extent[0]
        draw_text(image, f"{tick:g}", x, bottom + 2 * size, size=0.9 * size, color=SOFT_INK, align="center")
    for color, xy in zip(distinct_colors(len(known)), known.values()):
        place, ink = corner + (xy - low) / span * extent, (int(color[0]), int(color[1]), int(color[2]))
        draw_line(image, place, ink, width=size / 4.5)
        for x, y in np.rint(place - size / 4).astype(int) if len(place) <= MARKED else ():
            fill(image, int(x), int(y), round(size / 2), round(size / 2), ink)
    draw_text(image, title, left, 2.2 * size, size=1.25 * size, bold=True)
    draw_text(image, x_label, right, height - 0.8 * size, size=0.9 * size, color=SOFT_INK, align="right")
    return image


def draw_run(run: str | Path, *, width: int = 1200) -> NDArray[np.uint8]:
    """Draw a training run from its ``metrics.jsonl``: losses (summed over layers) left, AP on the validation scans right.

    Raises FileError.
    """
    path = Path(run) / "metrics.jsonl"
    if not path.is_file():
        raise FileError(explain("this run has no log", where=path, do="Name the output folder of a training run."))
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")     # the last line may be in the middle of being written
    records = [json.loads(line) for line in whole.splitlines()]
    losses = _columns([_over_layers(record) for record in records if record["kind"] == "train"], LOSSES)
    scores = {name.upper(): curve for name, curve in _columns([r for r in records if r["kind"] == "val"], SCORES).items()}
    half = width // 2
    return np.hstack([draw_curves(losses, title="Training loss", x_label="epoch", width=half),
                      draw_curves(scores, title="Validation AP", x_label="epoch", width=width - half)])


def _over_layers(record: dict[str, Any]) -> dict[str, Any]:
    """Add up what differs only in the layer: layer0.cls and layer1.cls become cls."""
    total: dict[str, Any] = {}
    for name, value in record.items():
        kind = name.rpartition(".")[2]
        total[kind] = total[kind] + value if kind in total else value
    return total


def _columns(records: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Curve]:
    """The numbers of these names over the epoch, as far as the records have them; missing ones are NaN."""
    epochs = [record["epoch"] for record in records]
    return {name: (epochs, [float("nan") if record.get(name) is None else record[name] for record in records])
            for name in names if any(name in record for record in records)}


def nice_ticks(values: NDArray[np.floating], count: int = 5, finest: float = 0.0) -> NDArray[np.float64]:
    """Return about ``count`` round numbers (1, 2 or 5 times a power of ten apart) that enclose the values.

    They are ``finest`` apart at least. A single value is enclosed with zero, and zero with one.
    """
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if high - low < 1e-12:
        low, high = min(low, 0.0), max(high, 0.0) if high else 1.0
    rough = max((high - low) / count, finest)
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return np.arange(np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9) + 1) * step


def _finite(curve: Curve) -> NDArray[np.float64]:
    xy = np.column_stack([np.asarray(curve[0], dtype=np.float64), np.asarray(curve[1], dtype=np.float64)])
    return xy[np.isfinite(xy).all(axis=1)]


def _legend(image: NDArray[np.uint8], names: list[str], left: float, right: float, baseline: float, size: float) -> float:
    """Name the colours from ``left`` to ``right``, in as many rows as they need; returns the baseline of the last."""
    x = left
    for color, name in zip(distinct_colors(len(names)), names):
        end = x + 2.3 * size + text_width(name, 0.9 * size)
        if end > right and x > left:
            x, end, baseline = left, end - x + left, baseline + 1.5 * size
        fill(image, round(x), round(baseline - 0.6 * size), round(1.8 * size), max(2, round(size / 4)),
             (int(color[0]), int(color[1]), int(color[2])))
        draw_text(image, name, x + 2.3 * size, round(baseline), size=0.9 * size, color=INK)
        x = end + 2 * size
    return baseline
