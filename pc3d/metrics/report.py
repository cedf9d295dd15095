"""Tables and json of metric results, and means that leave out what has no value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def text_table(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[float]]], mean: Sequence[float]) -> str:
    """Return an aligned text table in percent: one row per class, the mean last, "-" where there is no value."""
    rows = [*rows, ("mean", mean)]
    width = max(len("class"), *(len(name) for name, _ in rows))
    lines = [f"{'class':<{width}} " + " ".join(f"{head:>6}" for head in heads)]
    lines += [f"{name:<{width}} " + " ".join(f"{percent(value):>6}" for value in values) for name, values in rows]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def flat_numbers(means: Mapping[str, float], keys: Sequence[str],
                 per_class: Mapping[str, Sequence[float]]) -> dict[str, float | None]:
    """Return json-ready numbers: the means, and ``key/<class>`` for each class; None where there is no value."""
    flat = dict(means)
    for name, values in per_class.items():
        flat |= {f"{key}/{name}": value for key, value in zip(keys, values)}
    return {key: None if np.isnan(value) else float(value) for key, value in flat.items()}


def nanmean(values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Average what is not NaN along an axis, NaN where nothing is: np.nanmean without its warning."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis))


def ratio(part: NDArray[np.number], whole: NDArray[np.number]) -> NDArray[np.float64]:
    """Divide, with NaN where the whole is 0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)


def percent(value: float) -> str:
    """Write a share of 1 in percent with one digit, "-" for NaN."""
    return "-" if np.isnan(value) else f"{100 * value:.1f}"
