"""Bathroom furniture."""

from __future__ import annotations

import numpy as np

from pc3d.synth.furniture.parts import RGB, Part, cloth, hsv, paint, tinted, white
from pc3d.synth.furniture.storage import fronts
from pc3d.synth.primitives import FABRIC, METAL, Mesh, box, lathe, merge, panel, path, rounded_box, sheet


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
