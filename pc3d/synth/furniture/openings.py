"""What belongs to a wall: doors, windows, pictures, curtains. Wall frame: x along the wall, room side -y, z up."""

from __future__ import annotations

import numpy as np

from pc3d.synth.furniture.bath import folds
from pc3d.synth.furniture.parts import Part, cloth, grey, hsv, paint, tinted, white, wood
from pc3d.synth.primitives import GLASS, GRAIN, METAL, Mesh, box, merge, path


def _frame(width: float, height: float, broad: float, thick: float, color: tuple[float, float, float], sill: bool) -> Mesh:
    """Border of bars around x in [-width/2, width/2], z in [0, height], proud of the plane y = 0 by ``thick`` / 2."""
    bars = [box((broad, thick, height + broad), color, (sx * (width + broad) / 2, 0, 0)) for sx in (-1, 1)]
    bars.append(box((width, thick, broad), color, (0, 0, height)))
    if sill:
        bars.append(box((width + 2 * broad, thick, broad), color, (0, 0, -broad)))
    return merge(*bars)


def _reveal(width: float, height: float, deep: float, color: tuple[float, float, float], bottom: bool) -> Mesh:
    sides = [box((0.01, deep, height), color, (sx * (width / 2 + 0.005), deep / 2, 0)) for sx in (-1, 1)]
    sides.append(box((width, deep, 0.01), color, (0, deep / 2, height)))
    if bottom:
        sides.append(box((width, deep, 0.01), color, (0, deep / 2, -0.01)))
    return merge(*sides)


def door(rng: np.random.Generator, width: float, height: float, ajar: float = 0.2) -> Part:
    """Door with frame in a hole of the given size: one leaf, or two where it is broad, shut or (chance ``ajar``) open."""
    color = [white, wood, paint, grey][rng.integers(4)](rng)
    frame = color if rng.random() < 0.6 else white(rng)
    deep, glazed = rng.uniform(0.01, 0.1), rng.random()
    count = 2 if width > 1.2 else 1
    side = rng.choice([-1, 1])
    leaves = []
    for hinge in (-1, 1) if count == 2 else (-side,):
        wide = width / count
        leaf = _leaf(rng, wide, height, color, glazed, -hinge).moved(hinge * (width - wide) / 2, deep + 0.02, 0)
        if rng.random() < ajar:
            leaf = leaf.moved(-hinge * width / 2).rotated(-hinge * rng.uniform(0.3, 1.7)).moved(hinge * width / 2)
        leaves.append(leaf)
    surround = merge(
        _frame(width, height, rng.uniform(0.05, 0.1), 0.04, frame, sill=False),
        _reveal(width, height, deep + 0.04, frame, bottom=True),
    )
    return Part("door", merge(*leaves, surround))


def _leaf(
    rng: np.random.Generator, width: float, height: float, color: tuple[float, float, float], glazed: float, side: int
) -> Mesh:
    """Door leaf about x = 0 with its handle at ``side``: glass in a frame, with a pane, panelled, or plain."""
    if glazed < 0.15:
        bars = [box((0.1, 0.04, height), color, (sx * (width / 2 - 0.05), 0, 0)) for sx in (-1, 1)]
        bars += [box((width, 0.04, 0.12), color, (0, 0, z)) for z in (0, height - 0.12)]
        parts = [
            box((width, 0.01, height), hsv(0.55, rng.uniform(0, 0.2), rng.uniform(0.5, 0.95)), (0, 0.005, 0), GLASS),
            *bars,
        ]
    else:
        parts = [box((width, 0.04, height), color, (0, 0, 0), GRAIN)]
    if 0.15 <= glazed < 0.3:
        parts.append(box((width * 0.35, 0.045, 0.9), hsv(0.55, 0.1, 0.8), (0, 0, height - 1.1), GLASS))
    elif glazed > 0.6:
        parts += [
            box((width * 0.32, 0.012, high), tinted(color, 0.93), (sx * width * 0.22, -0.022, z))
            for sx in (-1, 1)
            for z, high in ((0.15, 0.75), (1.05, height - 1.25))
        ]
    x = side * (width / 2 - 0.08)
    parts.append(path([(x, -0.02, 1.02), (x, -0.07, 1.02), (x - side * 0.12, -0.07, 1.02)], 0.025, grey(rng), METAL))
    return merge(*parts)


def window(rng: np.random.Generator, width: float, height: float) -> Part:
    """Window with panes, cross bars and sill in a hole of the given size; its bottom is at z = 0."""
    color = white(rng) if rng.random() < 0.75 else wood(rng)
    deep, bars = rng.uniform(0.05, 0.18), int(rng.integers(1, 4))
    sky = hsv(0.58, rng.uniform(0, 0.25), rng.uniform(0.75, 1.0))
    parts = [
        box((width, 0.01, height), sky, (0, deep + 0.02, 0), GLASS),
        _reveal(width, height, deep, color, bottom=True),
        _frame(width, height, 0.06, 0.03, color, sill=True),
    ]
    parts += [box((0.06, 0.05, height), color, (x, deep, 0)) for x in np.linspace(-0.5, 0.5, bars + 1) * (width - 0.06)]
    levels = [0.0, height - 0.06, *([height * 0.6] if rng.random() < 0.4 else [])]
    parts += [box((width, 0.05, 0.06), color, (0, deep, z)) for z in levels]
    parts.append(box((width + 0.15, 0.16, 0.03), color, (0, 0, -0.04)))
    return Part("window", merge(*parts))


def picture(rng: np.random.Generator) -> Part:
    """Framed picture with a few coloured patches, hanging on y = 0."""
    width, height = rng.uniform([0.35, 0.3], [1.1, 0.9])
    border, thick = rng.uniform(0.02, 0.05), rng.uniform(0.02, 0.045)
    parts = [box((width, thick, height), paint(rng), (0, -thick / 2, 0))]
    columns, rows = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    hue, cell_x, cell_z = rng.random(), (width - 2 * border) / columns, (height - 2 * border) / rows
    for i in range(columns):
        for j in range(rows):
            color = hsv(hue + rng.normal(0, 0.12), rng.uniform(0.1, 0.8), rng.uniform(0.2, 1.0))
            parts.append(
                box(
                    (cell_x, 0.004, cell_z),
                    color,
                    (-width / 2 + border + (i + 0.5) * cell_x, -thick - 0.001, border + j * cell_z),
                )
            )
    return Part("picture", merge(*parts))


def curtains(rng: np.random.Generator, width: float, low: float, high: float) -> list[Part]:
    """One or two curtains at the sides of a window, each an instance; the window is centred on x = 0."""
    color = cloth(rng) if rng.random() < 0.7 else white(rng)
    cover = width * rng.uniform(0.25, 0.45)
    away = -rng.uniform(0.08, 0.14)
    sides = [-1, 1] if rng.random() < 0.75 else [rng.choice([-1, 1])]
    return [
        Part("curtain", folds(rng, cover, low, high, color).moved(side * (width / 2 - cover * 0.3) - cover / 2, away))
        for side in sides
    ]
