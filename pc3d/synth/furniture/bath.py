"""Bathroom furniture."""

from __future__ import annotations

import numpy as np

from pc3d.synth.furniture.parts import RGB, Part, cloth, grey, hsv, paint, tinted, white, wood
from pc3d.synth.furniture.storage import fronts
from pc3d.synth.primitives import FABRIC, METAL, SCREEN, Mesh, box, lathe, merge, panel, path, rounded_box, sheet


def _porcelain(rng: np.random.Generator) -> RGB:
    return hsv(0.12, rng.uniform(0, 0.06), rng.uniform(0.86, 0.97))


def toilet(rng: np.random.Generator) -> list[Part]:
    """Toilet: bowl, seat, lid open or shut, cistern at the back."""
    color, seat = _porcelain(rng), rng.uniform(0.38, 0.44)
    wide, long = rng.uniform(0.17, 0.2), rng.uniform(0.24, 0.28)
    foot = lathe(
        [
            (0.6, 0),
            (0.62, 0.05),
            (0.55, 0.15),
            (0.95, seat - 0.03),
            (1.0, seat),
            (0.72, seat),
            (0.62, seat - 0.1),
            (0.25, seat - 0.22),
            (0, seat - 0.22),
        ],
        color,
        segments=20,
    ).scaled(wide, long, 1.0)
    block = box((0.22, 0.3, seat - 0.04), color, (0, long * 0.6, 0))
    ring = lathe([(0.66, 0), (1.03, 0), (1.03, 0.025), (0.66, 0.025)], tinted(color, 0.97), (0, 0, seat), 20).scaled(
        wide, long, 1.0
    )
    lid = lathe([(0, 0), (1.02, 0), (1.02, 0.02), (0, 0.02)], color, segments=20).scaled(wide, long, 1.0)
    lid = lid.moved(0, 0, seat + 0.026) if rng.random() < 0.5 else lid.rotated(1.45, "x").moved(0, long * 0.95, seat + long)
    high = rng.uniform(0.32, 0.42)
    tank = rounded_box((rng.uniform(0.34, 0.42), 0.19, high), color, (0, long + 0.12, seat - 0.03), 0.03)
    knob = box((0.05, 0.03, 0.02), hsv(0, 0, 0.7), (0, long + 0.1, seat - 0.03 + high), METAL)
    return [Part("toilet", merge(foot, block, ring, lid, tank, knob).moved(0, -0.08, 0))]


def wall_toilet(rng: np.random.Generator) -> list[Part]:
    """Toilet without a cistern in the room, on a foot or hung on a wall box; or one with the cistern high up."""
    color, seat = _porcelain(rng), rng.uniform(0.38, 0.46)
    wide, long = rng.uniform(0.17, 0.2), rng.uniform(0.26, 0.3)
    hung = rng.random() < 0.5
    low = 0.1 if hung else 0.0
    bowl = lathe(
        [
            (0.35 if hung else 0.6, low),
            (0.6, low + 0.1),
            (1.0, seat - 0.06),
            (1.0, seat),
            (0.7, seat),
            (0.5, seat - 0.18),
            (0, seat - 0.2),
        ],
        color,
        segments=20,
    ).scaled(wide, long, 1.0)
    neck = box((1.5 * wide, 0.7 * long, seat - 0.08 - low), color, (0, 0.7 * long, low))
    lid = lathe([(0, 0), (1.02, 0), (1.02, 0.03), (0, 0.03)], color, segments=20).scaled(wide, long, 1.0)
    lid = lid.moved(0, 0, seat) if rng.random() < 0.5 else lid.rotated(1.45, "x").moved(0, long * 0.95, seat + long)
    back = 1.05 * long
    if hung or rng.random() < 0.4:
        wall = rounded_box((rng.uniform(0.4, 1.0), 0.16, rng.uniform(0.9, 1.2)), white(rng), (0, back + 0.08, 0), 0.01)
        return [
            Part("toilet", merge(bowl, neck, lid)),
            Part("", merge(wall, box((0.25, 0.02, 0.16), hsv(0, 0, 0.8), (0, back - 0.01, 0.8)))),
        ]
    tank = rounded_box((0.42, 0.17, 0.36), color, (0, back + 0.09, rng.uniform(0.45, 1.5)), 0.03)
    pipe = box((0.05, 0.05, float(tank.bounds[0, 2]) + 0.02), color, (0, back + 0.1, 0))
    return [Part("toilet", merge(bowl, neck, lid, tank, pipe))]


def vanity(rng: np.random.Generator) -> list[Part]:
    """One or two basins set into a long counter over cabinets or over nothing, with a mirror behind."""
    count = int(rng.integers(1, 4))
    width, depth, height = count * rng.uniform(0.7, 0.95), rng.uniform(0.5, 0.62), rng.uniform(0.8, 0.9)
    color, top = _porcelain(rng), [white, wood, grey][rng.integers(3)](rng)
    spots, wide, deep = (np.arange(count) + 0.5) * width / count, rng.uniform(0.38, 0.5), rng.uniform(0.3, 0.38)
    holes = [(x - wide / 2, x + wide / 2, 0.5 * (depth - deep) - 0.03, 0.5 * (depth + deep) - 0.03) for x in spots]
    plate = panel(width, depth, holes, top).rotated(-np.pi / 2, "x").moved(-width / 2, -depth / 2, height)
    edge = box((width, 0.02, 0.06), top, (0, -depth / 2 + 0.01, height - 0.06))
    parts = [Part("counter", merge(plate, edge))]
    for x in spots - width / 2:
        y = depth / 2 - 0.07
        tap = path([(x, y, height), (x, y, height + 0.14), (x, y - 0.14, height + 0.12)], 0.035, hsv(0, 0, 0.7), METAL)
        rim = [box((wide + 0.04, 0.03, 0.015), color, (x, sy * deep / 2 - 0.03, height)) for sy in (-1, 1)]
        rim += [box((0.03, deep, 0.015), color, (x + sx * wide / 2, -0.03, height)) for sx in (-1, 1)]
        parts.append(Part("sink", merge(_tub_bowl(wide, deep, 0.14, color).moved(x, -0.03, height), tap, *rim)))
    below = fronts(rng, width - 0.02, depth - 0.04, height - 0.07, paint(rng), rows=1, columns=2 * count, closed_top=False)
    parts.append(
        Part("cabinet", below)
        if rng.random() < 0.7
        else Part("", box((width, 0.03, height - 0.05), white(rng), (0, depth / 2 - 0.015, 0)))
    )
    if rng.random() < 0.6:
        parts.append(Part("", box((width, 0.02, 0.8), hsv(0.55, 0.05, 0.75), (0, depth / 2, height + 0.2), SCREEN)))
    return parts


def wall_basin(rng: np.random.Generator) -> list[Part]:
    """Wash basin on the wall, with its siphon below, and often a mirror above."""
    width, depth, height = rng.uniform([0.4, 0.35, 0.8], [0.65, 0.5, 0.9])
    color = _porcelain(rng)
    siphon = box((0.06, 0.06, height - 0.1), hsv(0, 0, 0.7), (0, depth / 2 - 0.1, 0), METAL)
    parts = [Part("sink", merge(_basin(color, width, depth).moved(0, 0, height - 0.14), siphon))]
    if rng.random() < 0.6:
        parts.append(
            Part(
                "", box((width * rng.uniform(0.8, 1.3), 0.02, 0.7), hsv(0.55, 0.05, 0.75), (0, depth / 2, height + 0.3), SCREEN)
            )
        )
    return parts


def wash_basin(rng: np.random.Generator) -> list[Part]:
    """Wash basin on a vanity cabinet or on a pedestal."""
    width, depth, height = rng.uniform([0.5, 0.4, 0.8], [0.9, 0.52, 0.88])
    color = _porcelain(rng)
    basin = _basin(color, width, depth).moved(0, 0, height - 0.14)
    if rng.random() < 0.6:
        base = fronts(rng, width - 0.04, depth - 0.04, height - 0.15, paint(rng), rows=1, columns=2)
        return [Part("sink", basin), Part("cabinet", base)]
    stem = lathe([(0.14, 0), (0.1, 0.1), (0.08, 0.5), (0.13, height - 0.12)], color, (0, 0.05, 0))
    return [Part("sink", merge(basin, stem))]


def _basin(color: RGB, width: float, depth: float) -> Mesh:
    hole = (0.06, width - 0.06, 0.06, depth - 0.12)
    top = panel(width, depth, [hole], color).rotated(-np.pi / 2, "x").moved(-width / 2, -depth / 2, 0.14)
    skirt = [box((width, 0.015, 0.14), color, (0, sy * (depth / 2 - 0.008), 0)) for sy in (-1, 1)]
    skirt += [box((0.015, depth, 0.14), color, (sx * (width / 2 - 0.008), 0, 0)) for sx in (-1, 1)]
    bowl = _tub_bowl(width - 0.12, depth - 0.18, 0.11, tinted(color, 0.96)).moved(0, -0.03, 0.14)
    tap = path(
        [(0, depth / 2 - 0.06, 0.14), (0, depth / 2 - 0.06, 0.27), (0, depth / 2 - 0.2, 0.26)], 0.035, hsv(0, 0, 0.7), METAL
    )
    return merge(top, *skirt, bowl, tap)


def _tub_bowl(width: float, depth: float, deep: float, color: RGB) -> Mesh:
    """Inner surface of a basin below z = 0: a rectangle at the rim that shrinks towards the bottom."""
    rings = []
    for shrink, level in ((0.0, 0.0), (0.04, -0.6), (0.1, -0.9), (0.2, -1.0), (1.0, -1.0)):
        x, y, z = width / 2 * (1 - shrink), depth / 2 * (1 - shrink), deep * level
        rings.append([(-x, -y, z), (x, -y, z), (x, y, z), (-x, y, z), (-x, -y, z)])
    return sheet(np.array(rings), color)


def bathtub(rng: np.random.Generator) -> list[Part]:
    """Built-in bathtub, long side along x, with a tap at one end."""
    length, width, height = rng.uniform([1.5, 0.68, 0.48], [1.75, 0.8, 0.6])
    color = _porcelain(rng)
    rim = (
        panel(length, width, [(0.08, length - 0.08, 0.07, width - 0.07)], color)
        .rotated(-np.pi / 2, "x")
        .moved(-length / 2, -width / 2, height)
    )
    skirt = [box((length, 0.02, height), color, (0, sy * (width / 2 - 0.01), 0)) for sy in (-1, 1)]
    skirt += [box((0.02, width, height), color, (sx * (length / 2 - 0.01), 0, 0)) for sx in (-1, 1)]
    bowl = _tub_bowl(length - 0.16, width - 0.14, height - 0.1, tinted(color, 0.98)).moved(0, 0, height)
    tap = path(
        [(length / 2 - 0.06, 0, height), (length / 2 - 0.06, 0, height + 0.15), (length / 2 - 0.18, 0, height + 0.14)],
        0.04,
        hsv(0, 0, 0.65),
        METAL,
    )
    return [Part("bathtub", merge(rim, *skirt, bowl, tap))]


def tub_with_curtain(rng: np.random.Generator) -> list[Part]:
    """Bathtub with a shower curtain hanging from a rod along its front."""
    tub = bathtub(rng)
    low, high = tub[0].mesh.bounds
    length, rod = float(high[0] - low[0]), rng.uniform(1.9, 2.05)
    cover = length * rng.uniform(0.35, 0.9)
    side = rng.choice([-1, 1])
    color = cloth(rng) if rng.random() < 0.6 else white(rng)
    hanging = folds(rng, cover, rng.uniform(0.15, 0.3), rod - 0.03, color).moved(
        side * (length - cover) / 2 - cover / 2, float(low[1]) - 0.03, 0
    )
    pole = box((length, 0.025, 0.025), hsv(0, 0, 0.7), (0, float(low[1]) - 0.03, rod - 0.02), METAL)
    return [*tub, Part("shower curtain", merge(hanging, pole))]


def folds(rng: np.random.Generator, width: float, low: float, high: float, color: RGB) -> Mesh:
    """Hanging cloth from x = 0 to ``width`` in folds about the xz plane."""
    count = max(8, int(width / 0.025))
    x, z = np.linspace(0, width, count), np.linspace(low, high, 8)
    phase = np.cumsum(rng.uniform(0.7, 1.3, count)) * 2 * np.pi * 0.025 / rng.uniform(0.1, 0.18)
    grid = np.zeros((count, 8, 3))
    grid[..., 0], grid[..., 2] = x[:, None], z
    grid[..., 1] = (rng.uniform(0.02, 0.045) * np.sin(phase))[:, None] * np.linspace(1.15, 0.75, 8) + 0.01 * np.sin(3 * z)
    return sheet(grid, color, FABRIC)
