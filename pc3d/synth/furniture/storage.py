"""Cabinets, shelves, refrigerators and the odd things standing around."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pc3d.synth.furniture.parts import RGB, Part, black, grey, hsv, paint, tinted, white, wood
from pc3d.synth.primitives import GRAIN, METAL, PLAIN, Mesh, bar, box, cylinder, lathe, merge


def fronts(
    rng: np.random.Generator,
    width: float,
    depth: float,
    height: float,
    color: RGB,
    rows: int,
    columns: int,
    closed_top: bool = True,
) -> Mesh:
    """Closed body with ``rows`` x ``columns`` doors or drawers on its front (-y), each with a handle or knob."""
    surface = GRAIN if rng.random() < 0.6 else PLAIN
    gap, thick = 0.008, 0.02
    body = box((width, depth - thick, height), tinted(color, 0.88), (0, thick / 2, 0), surface)
    if not closed_top:
        body = merge(
            *[
                box((0.02, depth - thick, height), tinted(color, 0.88), (sx * (width / 2 - 0.01), thick / 2, 0), surface)
                for sx in (-1, 1)
            ]
        )
    steel, style = grey(rng), int(rng.integers(4))
    parts, cell, rise = [body], width / columns, height / rows
    for row in range(rows):
        for column in range(columns):
            x, z = -width / 2 + cell * (column + 0.5), rise * row
            parts.append(box((cell - gap, thick, rise - gap), color, (x, -depth / 2 + thick / 2, z + gap / 2), surface))
            parts.append(_handle(style, cell, rise, column, steel).moved(x, -depth / 2, z))
    return merge(*parts)


def _handle(style: int, width: float, height: float, column: int, color: RGB) -> Mesh:
    upright = height > 1.1 * width
    side = (1 if column % 2 == 0 else -1) * (width / 2 - 0.05)
    if style == 0:
        spot = (side, -0.015, height / 2) if upright else (0, -0.015, height / 2)
        return box((0.03, 0.03, 0.03), color, spot, METAL)
    if style == 1:
        length = min(0.3, 0.6 * width)
        return box((length, 0.025, 0.015), color, (0, -0.0125, height - 0.07), METAL)
    if upright:
        return box((0.015, 0.03, min(0.25, 0.5 * height)), color, (side, -0.015, height / 2), METAL)
    return box((min(0.2, 0.5 * width), 0.03, 0.015), color, (0, -0.015, height / 2), METAL)


def door_cabinet(rng: np.random.Generator) -> list[Part]:
    """Low or medium cabinet with doors, clutter on top."""
    width, depth, height = rng.uniform([0.5, 0.35, 0.5], [1.4, 0.55, 1.2])
    mesh = fronts(rng, width, depth, height, paint(rng), rows=1, columns=max(1, round(width / 0.45)))
    return [Part("cabinet", mesh)]


def dresser(rng: np.random.Generator) -> list[Part]:
    """Chest of drawers on short feet."""
    width, depth, height = rng.uniform([0.4, 0.38, 0.5], [1.1, 0.52, 1.1])
    color = paint(rng)
    body = fronts(
        rng, width, depth, height - 0.08, color, rows=int(rng.integers(2, 5)), columns=1 if width < 0.75 else 2
    ).moved(0, 0, 0.06)
    feet = [
        box((0.05, 0.05, 0.08), tinted(color, 0.7), (sx * (width / 2 - 0.04), sy * (depth / 2 - 0.05), 0))
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    top = box((width + 0.03, depth + 0.02, 0.025), color, (0, 0, height - 0.025), GRAIN)
    return [Part("cabinet", merge(body, top, *feet))]


def nightstand(rng: np.random.Generator) -> list[Part]:
    """Small cabinet beside a bed, often with a lamp on it."""
    width, depth, height = rng.uniform([0.38, 0.33, 0.4], [0.52, 0.43, 0.6])
    parts = [Part("cabinet", fronts(rng, width, depth, height, paint(rng), rows=int(rng.integers(1, 4)), columns=1))]
    if rng.random() < 0.6:
        parts.append(Part("otherfurniture", _table_lamp(rng).moved(0, 0.05, height)))
    return parts


def wardrobe(rng: np.random.Generator) -> list[Part]:
    """Tall cabinet with doors."""
    width, depth, height = rng.uniform([0.8, 0.5, 1.75], [1.8, 0.62, 2.2])
    return [
        Part(
            "cabinet",
            fronts(rng, width, depth, height, paint(rng), rows=1 + int(rng.random() < 0.3), columns=max(2, round(width / 0.5))),
        )
    ]


def sliding_wardrobe(rng: np.random.Generator) -> list[Part]:
    """Wide wardrobe with smooth sliding doors, one of them perhaps a mirror."""
    width, depth, height = rng.uniform([1.3, 0.55, 1.9], [2.4, 0.68, 2.3])
    color, count = paint(rng), int(rng.integers(2, 4))
    leaf = width / count
    parts = [box((width, depth - 0.06, height), tinted(color, 0.9), (0, 0.03, 0), GRAIN)]
    for index in range(count):
        mirror = rng.random() < 0.15
        shade = hsv(0.55, 0.08, 0.7) if mirror else tinted(color, rng.uniform(0.9, 1.1))
        at = (-width / 2 + leaf * (index + 0.5), -depth / 2 + (0.015 if index % 2 else 0.04), 0.03)
        parts.append(box((leaf + 0.02, 0.025, height - 0.06), shade, at, METAL if mirror else GRAIN))
    return [Part("cabinet", merge(*parts))]


def filing_cabinet(rng: np.random.Generator) -> list[Part]:
    """Metal cabinet of an office or a row of lockers: low or tall, grey, black or white."""
    width, depth, height = rng.uniform([0.4, 0.42, 0.55], [1.2, 0.62, 1.9])
    color = [grey, black, white][rng.integers(3)](rng)
    rows, columns = max(1, round(height / rng.uniform(0.3, 1.2))), max(1, round(width / 0.5))
    return [Part("cabinet", fronts(rng, width, depth, height, color, rows, columns))]


def sideboard(rng: np.random.Generator) -> list[Part]:
    """Long low cabinet on thin legs (validation only)."""
    width, depth, height = rng.uniform([1.3, 0.38, 0.6], [1.9, 0.48, 0.85])
    color = wood(rng)
    body = fronts(rng, width, depth, height - 0.18, color, rows=int(rng.integers(1, 3)), columns=3).moved(0, 0, 0.18)
    legs = [
        bar(
            (sx * (width / 2 - 0.05), sy * (depth / 2 - 0.05), 0),
            (sx * (width / 2 - 0.1), sy * (depth / 2 - 0.08), 0.2),
            0.035,
            color,
        )
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    return [Part("cabinet", merge(body, *legs))]


def bookshelf(rng: np.random.Generator) -> list[Part]:
    """Open shelf with boards, a back, and rows of books."""
    width, depth, height = rng.uniform([0.6, 0.25, 1.0], [1.3, 0.36, 2.1])
    rows = max(2, round(height / rng.uniform(0.3, 0.42)))
    color, thick = paint(rng), rng.uniform(0.02, 0.035)
    parts = [box((thick, depth, height), color, (sx * (width - thick) / 2, 0, 0), GRAIN) for sx in (-1, 1)]
    levels = np.linspace(0.04, height - thick, rows + 1)
    parts += [box((width, depth, thick), color, (0, 0, z), GRAIN) for z in levels]
    parts.append(box((width, 0.012, height), tinted(color, 0.8), (0, depth / 2 - 0.006, 0), GRAIN))
    for low, high in pairwise(levels):
        parts += _books(rng, width - 2 * thick, depth, low + thick, high - low - thick)
    return [Part("bookshelf", merge(*parts))]


def open_rack(rng: np.random.Generator) -> list[Part]:
    """Boards on four posts, without a back, with boxes and books on them."""
    width, depth, height = rng.uniform([0.7, 0.3, 1.2], [1.6, 0.5, 2.1])
    color = [grey, wood, black][rng.integers(3)](rng)
    posts = [
        box((0.04, 0.04, height), color, (sx * (width / 2 - 0.02), sy * (depth / 2 - 0.02), 0), METAL)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    levels = np.linspace(0.08, height - 0.03, int(rng.integers(3, 7)))
    parts = [*posts, *[box((width, depth, 0.025), color, (0, 0, z), GRAIN) for z in levels]]
    for low, high in pairwise(levels):
        if rng.random() < 0.5:
            parts += _books(rng, width - 0.1, depth, low + 0.025, high - low - 0.03)
        else:
            parts += [
                box((0.22, depth * 0.8, (high - low) * rng.uniform(0.3, 0.8)), paint(rng), (x, 0, low + 0.025))
                for x in np.arange(-0.5, 0.4, 0.28 / width) * (width - 0.2) + 0.1
                if rng.random() < 0.6
            ]
    return [Part("bookshelf", merge(*parts))]


def cube_shelf(rng: np.random.Generator) -> list[Part]:
    """Grid of square compartments, some with books or boxes (validation only)."""
    columns, rows, cell, depth = (
        int(rng.integers(2, 5)),
        int(rng.integers(2, 5)),
        rng.uniform(0.33, 0.4),
        rng.uniform(0.33, 0.4),
    )
    color, thick = paint(rng), 0.03
    width, height = columns * cell, rows * cell
    parts = [box((thick, depth, height), color, (x, 0, 0), GRAIN) for x in np.linspace(-0.5, 0.5, columns + 1) * width]
    parts += [box((width + thick, depth, thick), color, (0, 0, z), GRAIN) for z in np.linspace(0, height, rows + 1)]
    parts.append(box((width, 0.01, height), tinted(color, 0.85), (0, depth / 2, 0)))
    for row in range(rows):
        for column in range(columns):
            x, z, kind = (column + 0.5) * cell - width / 2, row * cell + thick, rng.integers(3)
            if kind == 0:
                parts += [book.moved(x) for book in _books(rng, cell - thick, depth, z, cell - thick)]
            elif kind == 1:
                parts.append(box((cell - 0.05, depth - 0.04, cell - 0.08), paint(rng), (x, -0.01, z)))
    return [Part("bookshelf", merge(*parts))]


def _books(rng: np.random.Generator, width: float, depth: float, z: float, room: float) -> list[Mesh]:
    books, x, end = (
        [],
        -width / 2 + rng.choice([0.0, rng.uniform(0, 0.3)]) * width,
        width / 2 * rng.choice([0.98, rng.uniform(-0.5, 1.0)]),
    )
    while x < end:
        thick, high = rng.uniform(0.02, 0.07), min(room - 0.02, rng.uniform(0.18, 0.3))
        color = hsv(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.2, 0.95))
        books.append(box((thick - 0.003, depth * rng.uniform(0.6, 0.8), high), color, (x + thick / 2, 0.01, z)))
        x += thick
    return books


def refrigerator(rng: np.random.Generator) -> list[Part]:
    """Refrigerator with one or two doors and bar handles."""
    width, depth, height = rng.uniform([0.55, 0.58, 1.4], [0.8, 0.75, 1.95])
    color = white(rng) if rng.random() < 0.6 else hsv(0.6, 0.03, rng.uniform(0.35, 0.7))
    split = height * rng.choice([0.3, 0.35, 0.65, 0.7])
    side, steel = rng.choice([-1, 1]), grey(rng)
    parts = [box((width, depth - 0.07, height), tinted(color, 0.93), (0, 0.035, 0.0), METAL)]
    for low, high in ((0.06, split), (split, height)):
        parts.append(box((width, 0.06, high - low - 0.012), color, (0, -depth / 2 + 0.03, low), METAL))
        middle = (low + high) / 2
        parts.append(
            box(
                (0.025, 0.05, min(0.5, (high - low) * 0.6)),
                steel,
                (side * (width / 2 - 0.06), -depth / 2 - 0.02, middle - min(0.25, (high - low) * 0.3)),
                METAL,
            )
        )
    return [Part("refrigerator", merge(*parts))]


def side_by_side(rng: np.random.Generator) -> list[Part]:
    """Wide refrigerator with two doors side by side, or a small one below a table's height."""
    width, depth, height = rng.uniform([0.85, 0.65, 1.65], [0.95, 0.78, 1.85])
    if small := rng.random() < 0.35:
        width, depth, height = rng.uniform([0.45, 0.45, 0.5], [0.6, 0.6, 0.9])
    color = [white(rng), hsv(0.6, 0.03, rng.uniform(0.35, 0.75)), black(rng)][rng.integers(3)]
    parts = [box((width, depth - 0.06, height), tinted(color, 0.92), (0, 0.03, 0), METAL)]
    doors = [(0.0, width)] if small else [(-width / 4, width / 2), (width / 4, width / 2)]
    for x, wide in doors:
        parts.append(box((wide - 0.01, 0.05, height - 0.06), color, (x, -depth / 2 + 0.025, 0.04), METAL))
        hand = (wide / 2 - 0.05) * (-np.sign(x) or 1.0)
        parts.append(box((0.025, 0.05, 0.5 * height), grey(rng), (x + hand, -depth / 2 - 0.02, 0.3 * height), METAL))
    return [Part("refrigerator", merge(*parts))]


def floor_lamp(rng: np.random.Generator) -> list[Part]:
    """Standing lamp with a shade."""
    height, radius = rng.uniform(1.3, 1.8), rng.uniform(0.14, 0.24)
    metal = grey(rng)
    shade = lathe([(radius, 0), (radius * rng.uniform(0.5, 1.0), 0.28)], white(rng), (0, 0, height - 0.28), 18)
    return [Part("otherfurniture", merge(cylinder(0.14, 0.03, metal), cylinder(0.022, height - 0.1, metal, segments=8), shade))]


def _table_lamp(rng: np.random.Generator) -> Mesh:
    radius = rng.uniform(0.1, 0.15)
    foot = lathe(
        [(0, 0), (0.07, 0), (0.07, 0.02), (0.03, 0.06), (0.05, 0.12), (0.02, 0.22), (0, 0.22)], paint(rng), segments=12
    )
    return merge(foot, lathe([(radius, 0), (radius * 0.65, 0.18)], white(rng), (0, 0, 0.18), 16))


def bin_(rng: np.random.Generator) -> list[Part]:
    """Open waste bin, round or square."""
    radius, height = rng.uniform(0.12, 0.18), rng.uniform(0.25, 0.55)
    color = grey(rng) if rng.random() < 0.6 else paint(rng)
    wall = lathe(
        [(0, 0.01), (radius * 0.8, 0), (radius, height), (radius - 0.015, height), (radius * 0.75, 0.03), (0, 0.03)],
        color,
        segments=4 if rng.random() < 0.3 else 18,
    )
    return [Part("otherfurniture", wall)]


def crate(rng: np.random.Generator) -> list[Part]:
    """Carton, open crate or suitcase on the floor."""
    size = rng.uniform([0.3, 0.25, 0.2], [0.55, 0.45, 0.5])
    color = hsv(0.08, 0.4, rng.uniform(0.5, 0.75)) if rng.random() < 0.6 else paint(rng)
    if rng.random() < 0.5:
        return [Part("otherfurniture", box(size, color))]
    x, y, z = size
    sides = [box((x, 0.015, z), color, (0, sy * y / 2, 0)) for sy in (-1, 1)] + [
        box((0.015, y, z), color, (sx * x / 2, 0, 0)) for sx in (-1, 1)
    ]
    return [Part("otherfurniture", merge(*sides, box((x, y, 0.02), color)))]
