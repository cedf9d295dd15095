"""Tables, desks and kitchen counters."""

from __future__ import annotations

import numpy as np

from pc3d.synth.furniture.parts import RGB, Part, black, grey, hsv, paint, tinted, white, wood
from pc3d.synth.furniture.storage import fronts
from pc3d.synth.primitives import (
    FABRIC,
    GRAIN,
    METAL,
    PLAIN,
    SCREEN,
    Mesh,
    bar,
    box,
    cylinder,
    lathe,
    merge,
    panel,
    path,
    rounded_box,
)


def _legs(
    width: float, depth: float, height: float, thick: float, color: RGB, splay: float = 0.0, surface: int = GRAIN
) -> Mesh:
    x, y = width / 2 - thick - splay, depth / 2 - thick - splay
    return merge(
        *[
            bar((sx * (x + splay), sy * (y + splay), 0), (sx * x, sy * y, height), thick, color, surface)
            for sx in (-1, 1)
            for sy in (-1, 1)
        ]
    )


def leg_table(rng: np.random.Generator) -> list[Part]:
    """Rectangular table on four legs with an apron below the top."""
    width, depth, height = rng.uniform([1.1, 0.7, 0.7], [2.0, 1.0, 0.78])
    color = paint(rng)
    parts = [
        box((width, depth, 0.035), color, (0, 0, height - 0.035), GRAIN),
        _legs(width, depth, height - 0.03, rng.uniform(0.05, 0.08), color, rng.uniform(0, 0.06)),
    ]
    if rng.random() < 0.6:
        parts.append(box((width - 0.16, depth - 0.16, 0.09), tinted(color, 0.9), (0, 0, height - 0.12), GRAIN))
    return [Part("table", merge(*parts))]


def slab_table(rng: np.random.Generator) -> list[Part]:
    """Table on two side boards, on crossed trestles or on metal frames."""
    width, depth, height = rng.uniform([1.0, 0.65, 0.7], [2.4, 1.1, 0.78])
    color = paint(rng)
    parts, style, x = (
        [box((width, depth, 0.04), color, (0, 0, height - 0.04), GRAIN)],
        rng.integers(3),
        width / 2 - rng.uniform(0.05, 0.3),
    )
    for sx in (-x, x):
        if style == 0:
            parts.append(box((0.04, depth - 0.06, height - 0.03), color, (sx, 0, 0), GRAIN))
        elif style == 1:
            parts += [
                bar((sx, sy * depth * 0.4, 0.025), (sx, -sy * depth * 0.4, height - 0.03), 0.05, color, GRAIN) for sy in (-1, 1)
            ]
        else:
            y, steel = depth / 2 - 0.05, grey(rng)
            parts.append(
                path([(sx, -y, height - 0.04), (sx, -y, 0.03), (sx, y, 0.03), (sx, y, height - 0.04)], 0.045, steel, METAL)
            )
    return [Part("table", merge(*parts))]


def round_table(rng: np.random.Generator) -> list[Part]:
    """Round table on one foot or on four legs."""
    radius, height = rng.uniform(0.4, 0.65), rng.uniform(0.7, 0.77)
    color = paint(rng)
    top = cylinder(radius, 0.035, color, (0, 0, height - 0.035), 28, GRAIN)
    if rng.random() < 0.6:
        stem = lathe(
            [(0, 0), (0.28, 0), (0.26, 0.03), (0.06, 0.08), (0.05, height - 0.08), (0.15, height - 0.03)],
            grey(rng),
            surface=METAL,
        )
    else:
        stem = _legs(1.3 * radius, 1.3 * radius, height - 0.02, 0.05, color)
    return [Part("table", merge(top, stem))]


def pedestal_table(rng: np.random.Generator) -> list[Part]:
    """Long table on two broad feet (validation only)."""
    width, depth, height = rng.uniform([1.4, 0.75, 0.72], [2.1, 1.0, 0.77])
    color = wood(rng)
    parts = [box((width, depth, 0.05), color, (0, 0, height - 0.05), GRAIN)]
    for sx in (-1, 1):
        parts += [
            box((0.08, 0.3, height - 0.1), color, (sx * width * 0.33, 0, 0.06), GRAIN),
            box((0.1, depth * 0.8, 0.07), color, (sx * width * 0.33, 0, 0), GRAIN),
        ]
    beam = box((width * 0.66, 0.05, 0.1), color, (0, 0, 0.3), GRAIN)
    return [Part("table", merge(*parts, beam))]


def coffee_table(rng: np.random.Generator) -> list[Part]:
    """Low table, sometimes with a board between the legs."""
    width, depth, height = rng.uniform([0.6, 0.45, 0.35], [1.2, 0.7, 0.5])
    color = paint(rng)
    if rng.random() < 0.25:
        mesh = merge(
            cylinder(width / 2, 0.03, color, (0, 0, height - 0.03), 24, GRAIN),
            _legs(width * 0.7, width * 0.7, height - 0.02, 0.04, color, 0.05),
        )
    else:
        mesh = merge(
            box((width, depth, 0.04), color, (0, 0, height - 0.04), GRAIN),
            _legs(width, depth, height - 0.03, rng.uniform(0.04, 0.07), color),
        )
        if rng.random() < 0.5:
            mesh = merge(mesh, box((width - 0.06, depth - 0.06, 0.02), color, (0, 0, 0.12), GRAIN))
    return [Part("table", mesh)]


def desk(rng: np.random.Generator) -> list[Part]:
    """Writing desk on legs or side boards, often with a drawer block, with a screen on it."""
    width, depth, height = rng.uniform([1.1, 0.55, 0.7], [1.8, 0.8, 0.77])
    color = paint(rng)
    parts = [box((width, depth, 0.03), color, (0, 0, height - 0.03), GRAIN)]
    if rng.random() < 0.5:
        parts.append(_legs(width, depth, height - 0.02, rng.uniform(0.03, 0.06), grey(rng), surface=METAL))
    else:
        parts += [box((0.03, depth - 0.02, height - 0.03), color, (sx * (width / 2 - 0.015), 0, 0), GRAIN) for sx in (-1, 1)]
        parts.append(box((width - 0.06, 0.02, height * 0.5), color, (0, depth / 2 - 0.05, height * 0.45), GRAIN))
    if rng.random() < 0.6:
        block = fronts(rng, 0.42, depth - 0.08, height - 0.12, color, rows=3, columns=1)
        parts.append(block.moved(rng.choice([-1, 1]) * (width / 2 - 0.25), 0, 0.06))
    return [Part("desk", merge(*parts))]


def office_desk(rng: np.random.Generator) -> list[Part]:
    """Desk on T-shaped metal feet, sometimes with a screen board at the back or a wing at one side."""
    width, depth, height = rng.uniform([1.2, 0.65, 0.68], [1.8, 0.85, 0.8])
    color, steel = (white(rng) if rng.random() < 0.5 else wood(rng)), grey(rng)
    parts = [box((width, depth, 0.028), color, (0, 0, height - 0.028), GRAIN)]
    for x in (-width / 2 + 0.15, width / 2 - 0.15):
        parts += [
            box((0.07, depth - 0.08, 0.03), steel, (x, 0, 0), METAL),
            box((0.06, 0.1, height - 0.04), steel, (x, 0.05, 0.02), METAL),
        ]
    if rng.random() < 0.4:
        parts.append(box((width, 0.03, rng.uniform(0.4, 0.8)), grey(rng), (0, depth / 2 + 0.015, height - 0.3), FABRIC))
    if rng.random() < 0.35:
        side, long = rng.choice([-1, 1]), rng.uniform(0.5, 0.9)
        x, y = side * (width / 2 - 0.3), -depth / 2 - long / 2
        parts += [
            box((0.6, long, 0.028), color, (x, y, height - 0.028), GRAIN),
            box((0.5, 0.04, height - 0.03), steel, (x, y - long / 2 + 0.05, 0)),
        ]
    return [Part("desk", merge(*parts))]


def drawer_desk(rng: np.random.Generator) -> list[Part]:
    """Desk on two drawer pedestals with a thick top (validation only)."""
    width, depth, height = rng.uniform([1.3, 0.6, 0.72], [1.7, 0.8, 0.78])
    color = wood(rng)
    blocks = [
        fronts(rng, 0.38, depth - 0.05, height - 0.07, color, rows=4, columns=1).moved(sx * (width / 2 - 0.2), 0, 0)
        for sx in (-1, 1)
    ]
    parts = [rounded_box((width, depth, 0.07), tinted(color, 0.8), (0, 0, height - 0.07), 0.02, GRAIN), *blocks]
    return [Part("desk", merge(*parts))]


def counter(rng: np.random.Generator) -> list[Part]:
    """Kitchen run of medium length; see ``kitchen_run``."""
    return kitchen_run(rng, rng.uniform(1.4, 2.4))


def island(rng: np.random.Generator) -> list[Part]:
    """Kitchen island, bar or reception desk: a worktop that stands free on a closed block."""
    width, depth, height = rng.uniform([1.2, 0.6, 0.86], [2.4, 1.0, 1.1])
    top = [grey, wood, white, black][rng.integers(4)](rng)
    block = fronts(
        rng,
        width - 0.1,
        depth - rng.uniform(0.05, 0.25),
        height - 0.04,
        paint(rng),
        rows=1,
        columns=max(2, round(width / 0.55)),
    )
    return [Part("counter", box((width, depth, 0.045), top, (0, 0, height - 0.045))), Part("cabinet", block)]


def kitchen_run(rng: np.random.Generator, width: float, wall_units: bool = True) -> list[Part]:
    """Worktop (counter) with inset sink over base cabinets, wall cabinets above, and a hob; back at +y."""
    depth, height, thick = rng.uniform(0.58, 0.65), rng.uniform(0.86, 0.94), 0.04
    color, top = paint(rng), [grey, wood, white][rng.integers(3)](rng)
    room = max(width - 0.9, 0.01)
    sink_x, sink_w, sink_d = rng.uniform(-0.5, 0.5) * room, rng.uniform(0.45, 0.65), 0.4
    hole = (sink_x + width / 2 - sink_w / 2, sink_x + width / 2 + sink_w / 2, depth / 2 - sink_d / 2, depth / 2 + sink_d / 2)
    plate = panel(width, depth, [hole], top, PLAIN).rotated(-np.pi / 2, "x").moved(-width / 2, -depth / 2, height)
    edge = box((width, 0.02, thick), top, (0, -depth / 2 + 0.01, height - thick))
    ends = [box((0.02, depth, thick), top, (sx * (width / 2 - 0.01), 0, height - thick)) for sx in (-1, 1)]
    splash = box((width, 0.015, rng.uniform(0.05, 0.12)), top, (0, depth / 2 - 0.008, height))
    parts = [
        Part("counter", merge(plate, edge, *ends, splash)),
        Part(
            "cabinet",
            fronts(
                rng,
                width,
                depth - 0.04,
                height - thick - 0.02,
                color,
                rows=int(rng.integers(1, 3)),
                columns=max(2, round(width / 0.55)),
                closed_top=False,
            ),
        ),
        Part("sink", _inset_sink(rng, sink_w, sink_d).moved(sink_x, 0, height)),
    ]
    if wall_units and rng.random() < 0.75:
        upper = fronts(
            rng, width * rng.uniform(0.6, 1.0), 0.34, rng.uniform(0.5, 0.8), color, rows=1, columns=max(2, round(width / 0.5))
        )
        parts.append(Part("cabinet", upper.moved(0, depth / 2 - 0.17, height + rng.uniform(0.45, 0.6))))
    return [*parts, *_hob(width, height, sink_x)]


def _inset_sink(rng: np.random.Generator, width: float, depth: float) -> Mesh:
    color = hsv(0.6, 0.03, rng.uniform(0.6, 0.9))
    deep = rng.uniform(0.14, 0.2)
    sides = [box((width, 0.02, deep), color, (0, sy * (depth / 2 - 0.01), -deep), METAL) for sy in (-1, 1)]
    sides += [box((0.02, depth, deep), color, (sx * (width / 2 - 0.01), 0, -deep), METAL) for sx in (-1, 1)]
    rim = [box((width + 0.05, 0.035, 0.012), color, (0, sy * depth / 2, 0), METAL) for sy in (-1, 1)]
    rim += [box((0.035, depth, 0.012), color, (sx * width / 2, 0, 0), METAL) for sx in (-1, 1)]
    tap = path(
        [(0, depth / 2, 0), (0, depth / 2, 0.28), (0, depth / 2 - 0.12, 0.3), (0, depth / 2 - 0.16, 0.24)], 0.035, color, METAL
    )
    return merge(*sides, *rim, tap, box((width, depth, 0.02), tinted(color, 0.85), (0, 0, -deep), METAL))


def _hob(width: float, height: float, sink_x: float) -> list[Part]:
    """A hob in the worktop, away from the sink, where there is room for it."""
    x = -np.sign(sink_x or 1.0) * (width / 2 - 0.35)
    if abs(x - sink_x) < 0.65:
        return []
    plates = [
        cylinder(0.09, 0.004, hsv(0, 0, 0.25), (x + dx, dy, height + 0.008), 12) for dx in (-0.13, 0.13) for dy in (-0.12, 0.12)
    ]
    return [Part("", merge(box((0.56, 0.5, 0.008), hsv(0, 0, 0.08), (x, 0, height)).covered(SCREEN), *plates))]
