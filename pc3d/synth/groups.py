"""Furniture that stands together: a table with its chairs, a bed with its night stands, a kitchen."""

from __future__ import annotations

import numpy as np

from pc3d.synth.furniture import Stock, seating, storage, surfaces, things
from pc3d.synth.furniture.parts import Part, bounds, moved, rotated

SITTING_HEIGHT = 0.65  # metres: a lower table is none to eat at


def around(rng: np.random.Generator, table: list[Part], chairs: int, stock: Stock) -> list[Part]:
    """A table with up to ``chairs`` chairs of one kind, each facing it."""
    makers = [
        seating.four_leg_chair,
        seating.four_leg_chair,
        seating.swivel_chair,
        *([seating.shell_chair] if stock.validation else []),
    ]
    maker = stock.draw_model("chair", rng) or makers[rng.integers(len(makers))]
    low, high = table[0].mesh.bounds
    half = (high - low)[:2] / 2
    per_side = max(1, int(half[0] * 2 / 0.65))
    spots = [(x, side) for side in (0, 2) for x in (np.arange(per_side) - (per_side - 1) / 2) * 2 * half[0] / per_side]
    if half[1] > 0.35:
        spots += [(0.0, 1), (0.0, 3)]
    parts, seed = list(table), int(rng.integers(2**31))
    for index in rng.permutation(len(spots))[:chairs]:
        along, side = spots[index]
        # the same seed gives the set one style; the angle and distance are each chair's own
        chair = maker(np.random.default_rng(seed))
        depth = float(chair[0].mesh.bounds[1, 1] - chair[0].mesh.bounds[0, 1])
        reach = half[1 if side % 2 == 0 else 0] + depth / 2 - rng.uniform(-0.2, 0.16)
        turned = moved(rotated(chair, rng.normal(0, 0.15) + np.pi), along, -reach)
        parts += rotated(turned, side * np.pi / 2)
    return parts


def dining_table(rng: np.random.Generator, stock: Stock) -> list[Part]:
    """A table high enough to sit at."""
    model = stock.draw_model("table", rng)
    if model and bounds(table := model(rng))[1, 2] > SITTING_HEIGHT:
        return table
    choices = [surfaces.leg_table, surfaces.round_table, *([surfaces.pedestal_table] if stock.validation else [])]
    return choices[rng.integers(len(choices))](rng)


def desk_group(rng: np.random.Generator, stock: Stock) -> list[Part]:
    """A desk with a chair drawn up to it."""
    table = stock.make("desk", rng)
    low, high = table[0].mesh.bounds
    chair = stock.make("chair", rng)
    deep = float(chair[0].mesh.bounds[1, 1] - chair[0].mesh.bounds[0, 1])
    x = rng.uniform(-0.12, 0.12) * float(high[0] - low[0])
    return [*table, *moved(rotated(chair, np.pi + rng.normal(0, 0.3)), x, float(low[1]) - deep / 2 + rng.uniform(-0.25, 0.1))]


def bed_group(rng: np.random.Generator, stock: Stock) -> list[Part]:
    """A bed with up to two night stands."""
    parts = stock.make("bed", rng)
    high = parts[0].mesh.bounds[1]
    for side in (-1, 1):
        if rng.random() < 0.6:
            stand = storage.nightstand(rng)
            corner = bounds(stand)[1]
            x = side * float(high[0] + corner[0] + rng.uniform(0.02, 0.1))
            parts += moved(stand, x, float(high[1] - corner[1]) - 0.02)
    return parts


def sofa_group(rng: np.random.Generator, stock: Stock) -> list[Part]:
    """A sofa, often with a low table in front."""
    parts = stock.make("sofa", rng)
    low = parts[0].mesh.bounds[0]
    if rng.random() < 0.75:
        table = surfaces.coffee_table(rng)
        parts += moved(table, rng.uniform(-0.2, 0.2), float(low[1]) - float(bounds(table)[1, 1]) - rng.uniform(0.25, 0.45))
    return parts


def kitchen_group(rng: np.random.Generator, width: float, wall_units: bool) -> list[Part]:
    """Counter run with a refrigerator at one end, backs in line."""
    fridge = storage.refrigerator(rng)
    high = bounds(fridge)[1]
    run = surfaces.kitchen_run(rng, width, wall_units)
    edge = bounds(run)
    side = rng.choice([-1, 1])
    x = side * (width / 2 + float(high[0]) + 0.04)
    return [*run, *moved(fridge, x, float(edge[1, 1] - high[1]))]


def television(rng: np.random.Generator, stock: Stock) -> list[Part]:
    """A cabinet with a television on it, if it is low."""
    stand = stock.make("cabinet", rng)
    top = float(stand[0].mesh.bounds[1, 2])
    return [*stand, *([Part("", things.television(rng).moved(0, 0, top))] if top < 1.0 else [])]
