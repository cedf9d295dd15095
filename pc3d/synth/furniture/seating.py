"""Things one sits or lies on."""

from __future__ import annotations

import numpy as np

from pc3d.synth.furniture.parts import RGB, Part, black, cloth, grey, paint, tinted, white, wood
from pc3d.synth.primitives import FABRIC, GRAIN, METAL, Mesh, bar, box, cylinder, lathe, merge, path, rounded_box, sheet


def four_leg_chair(rng: np.random.Generator) -> list[Part]:
    """Dining chair: four legs, flat or padded seat, back of a board, slats or rungs."""
    width, depth, seat, top = rng.uniform([0.4, 0.4, 0.42, 0.78], [0.5, 0.5, 0.48, 1.0])
    color, thick = (wood(rng) if rng.random() < 0.7 else grey(rng)), rng.uniform(0.025, 0.045)
    x, y, lean = width / 2 - thick / 2, depth / 2 - thick / 2, rng.uniform(0.02, 0.09)
    parts = [bar((sx * (x + 0.02), -y, 0), (sx * x, -y, seat), thick, color, GRAIN) for sx in (-1, 1)]
    for sx in (-1, 1):
        parts += [
            bar((sx * x, y + 0.02, 0), (sx * x, y, seat), thick, color, GRAIN),
            bar((sx * x, y, seat - 0.03), (sx * x, y + lean, top), thick, color, GRAIN),
        ]
    if rng.random() < 0.5:
        parts.append(rounded_box((width, depth, 0.06), cloth(rng), (0, 0, seat - 0.03), 0.025, FABRIC, bulge=0.015))
    else:
        parts.append(box((width, depth, 0.03), color, (0, 0, seat - 0.02), GRAIN))
    return [Part("chair", merge(*parts, _chair_back(rng, width, y, lean, seat, top, color)))]


def _chair_back(rng: np.random.Generator, width: float, y: float, lean: float, seat: float, top: float, color: RGB) -> Mesh:
    tilt, rise = -np.arctan2(lean, top - seat), top - seat
    style = rng.integers(3)
    if style == 0:
        height = rng.uniform(0.5, 0.9) * rise
        boards = [box((width - 0.04, 0.025, height), color, (0, 0, rise - height), GRAIN)]
    elif style == 1:
        boards = [
            box((width - 0.04, 0.022, 0.06), color, (0, 0, z), GRAIN)
            for z in np.linspace(0.12, rise - 0.07, rng.integers(2, 5))
        ]
    else:
        boards = [
            box((0.025, 0.02, rise - 0.05), color, (x, 0, 0.02), GRAIN) for x in np.linspace(-0.4, 0.4, 5) * (width - 0.1)
        ]
        boards.append(box((width - 0.02, 0.03, 0.07), color, (0, 0, rise - 0.07), GRAIN))
    return merge(*boards).rotated(tilt, "x").moved(0, y, seat)


def swivel_chair(rng: np.random.Generator) -> list[Part]:
    """Office chair: star foot, gas lift, padded seat and back, often arm rests."""
    seat, width = rng.uniform(0.43, 0.52), rng.uniform(0.46, 0.54)
    base = black(rng) if rng.random() < 0.6 else grey(rng)
    color = cloth(rng) if rng.random() < 0.4 else black(rng)
    reach = rng.uniform(0.27, 0.33)
    angles = np.arange(5) * 2 * np.pi / 5 + rng.uniform(0, 1)
    parts = [bar((0, 0, 0.1), (reach * np.cos(a), reach * np.sin(a), 0.07), 0.045, base) for a in angles]
    parts += [cylinder(0.03, 0.06, base, (reach * np.cos(a), reach * np.sin(a), 0), 8) for a in angles]
    parts += [
        cylinder(0.035, seat - 0.1, base, (0, 0, 0.08), 10),
        rounded_box((width, width, 0.09), color, (0, 0, seat - 0.05), 0.04, FABRIC, bulge=0.01),
    ]
    high = rng.uniform(0.4, 0.68)
    back = rounded_box((width * 0.92, 0.07, high), color, radius=0.035, surface=FABRIC).rotated(-rng.uniform(0.05, 0.2), "x")
    parts += [
        back.moved(0, width / 2 - 0.02, seat + 0.08),
        bar((0, width / 2 - 0.1, seat - 0.03), (0, width / 2 + 0.04, seat + 0.25), 0.05, base),
    ]
    if rng.random() < 0.6:
        for sx in (-1, 1):
            x = sx * (width / 2 + 0.02)
            parts += [
                bar((x, 0.05, seat), (x, 0.05, seat + 0.2), 0.035, base),
                box((0.06, 0.25, 0.03), base, (x, 0, seat + 0.2)),
            ]
    return [Part("chair", merge(*parts).rotated(rng.normal(0, 0.5)))]


def cantilever_chair(rng: np.random.Generator) -> list[Part]:
    """Visitor's chair on a bent tube or on skids, thin seat and back, often black."""
    width, depth, seat, top = rng.uniform([0.44, 0.42, 0.43, 0.78], [0.54, 0.5, 0.48, 0.92])
    color = black(rng) if rng.random() < 0.5 else cloth(rng)
    tube, thick, low_back = grey(rng), rng.uniform(0.022, 0.032), rng.random() < 0.5
    parts = []
    for x in (-width / 2, width / 2):
        front, back = (x, -depth / 2, seat), (x, depth / 2, seat)
        foot = (
            [(x, depth / 2, 0.015), (x, -depth / 2, 0.015), front]
            if low_back
            else [(x, -depth / 2, 0.015), (x, depth / 2, 0.015), back]
        )
        parts += [path(foot, thick, tube, METAL), path([front, back, (x, depth / 2 + 0.08, top)], thick, tube, METAL)]
        if rng.random() < 0.5:
            parts.append(box((0.05, depth * 0.8, 0.03), color, (x, 0, seat + 0.2)))
    parts.append(rounded_box((width - 0.02, depth, 0.05), color, (0, 0, seat - 0.01), 0.02, FABRIC, bulge=0.01))
    rise = rng.uniform(0.18, top - seat)
    back_pad = rounded_box((width - 0.02, 0.04, rise), color, radius=0.015, surface=FABRIC).rotated(
        -np.arctan2(0.08, top - seat), "x"
    )
    parts.append(back_pad.moved(0, depth / 2 + 0.08 * (1 - rise / (top - seat)), top - rise))
    return [Part("chair", merge(*parts))]


def tub_chair(rng: np.random.Generator) -> list[Part]:
    """Upholstered chair whose round back runs into its arms."""
    radius, seat, top = rng.uniform([0.32, 0.38, 0.65], [0.42, 0.45, 0.85])
    color = cloth(rng)
    angles = np.linspace(-0.25, np.pi + 0.25, 15)
    rise = top - 0.25 * np.abs(np.cos(angles)) ** 3 * rng.uniform(0.2, 1.0)
    rings = []
    for away, share in ((radius, 0.0), (radius, 1.0), (radius - 0.1, 1.0), (radius - 0.12, 0.5)):
        height = 0.1 + share * (rise - 0.1)
        rings.append(np.stack([away * np.cos(angles), away * np.sin(angles), height], axis=-1))
    cushion = cylinder(radius - 0.06, 0.14, tinted(color, rng.uniform(0.8, 1.2)), (0, -0.02, seat - 0.14), 18, FABRIC)
    body = cylinder(radius - 0.03, seat - 0.24, color, (0, 0, 0.1), 18, FABRIC)
    legs = [box((0.04, 0.04, 0.12), wood(rng), (sx * radius * 0.6, sy * radius * 0.6, 0)) for sx in (-1, 1) for sy in (-1, 1)]
    return [Part("chair", merge(sheet(np.array(rings), color, FABRIC), cushion, body, *legs))]


def shell_chair(rng: np.random.Generator) -> list[Part]:
    """Moulded shell on thin splayed legs (validation only)."""
    width, seat, top = rng.uniform([0.44, 0.42, 0.76], [0.52, 0.46, 0.86])
    color = paint(rng)
    across = np.linspace(-1, 1, 9)
    run = np.array(
        [(-0.22, seat + 0.02), (-0.1, seat - 0.01), (0.08, seat - 0.01), (0.18, seat + 0.05), (0.22, seat + 0.18), (0.25, top)]
    )
    grid = np.zeros((len(run), 9, 3))
    grid[..., 0] = across * width / 2 * np.array([0.85, 1, 1, 1, 0.95, 0.75])[:, None]
    bend = across**2 * np.array([0.01, 0.04, 0.06, 0.06, 0.03, 0.0])[:, None]
    grid[..., 1] = run[:, :1] - across**2 * np.array([0, 0, 0, 0.05, 0.07, 0.06])[:, None]
    grid[..., 2] = run[:, 1:] + bend
    shell = merge(sheet(grid, color), sheet(grid - np.array([0, 0, 0.012]), color))
    legs = [
        bar((0.23 * sx, 0.22 * sy, 0), (0.12 * sx, 0.12 * sy, seat - 0.01), 0.03, wood(rng), GRAIN)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    return [Part("chair", merge(shell, *legs))]


def armchair(rng: np.random.Generator) -> list[Part]:
    """Upholstered single seat with arm rests."""
    return [Part("chair", _couch(rng, rng.uniform(0.7, 0.9), 1))]


def sofa(rng: np.random.Generator) -> list[Part]:
    """Sofa with two or three seats."""
    seats = int(rng.integers(2, 4))
    return [Part("sofa", _couch(rng, seats * rng.uniform(0.6, 0.75) + 0.35, seats))]


def _couch(rng: np.random.Generator, width: float, seats: int) -> Mesh:
    depth, seat, back = rng.uniform([0.75, 0.38, 0.7], [0.95, 0.46, 0.95])
    arm, arm_height, soft = rng.uniform(0.1, 0.22), rng.uniform(0.5, 0.65), rng.uniform(0.03, 0.07)
    color = cloth(rng)
    pillow = tinted(color, rng.uniform(0.85, 1.15))
    foot = rng.uniform(0.03, 0.12)
    parts = [
        rounded_box((width, depth, seat - 0.12 - foot), color, (0, 0, foot), soft, FABRIC),
        rounded_box((width, 0.2, back - foot), color, (0, depth / 2 - 0.1, foot), soft, FABRIC),
    ]
    parts += [
        rounded_box((arm, depth, arm_height - foot), color, (sx * (width - arm) / 2, 0, foot), soft, FABRIC) for sx in (-1, 1)
    ]
    parts += [
        box((0.05, 0.05, foot + 0.02), wood(rng), (sx * (width / 2 - 0.08), sy * (depth / 2 - 0.08), 0))
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    inner = (width - 2 * arm) / seats
    for index in range(seats):
        x = -width / 2 + arm + inner * (index + 0.5)
        parts.append(rounded_box((inner - 0.01, depth - 0.2, 0.16), pillow, (x, -0.1, seat - 0.13), 0.05, FABRIC, bulge=0.03))
        cushion = rounded_box((inner - 0.02, 0.16, back - seat + 0.02), pillow, radius=0.06, surface=FABRIC).rotated(-0.15, "x")
        parts.append(cushion.moved(x, depth / 2 - 0.25, seat + 0.02))
    for _ in range(rng.integers(0, 3) if seats > 1 else 0):
        throw = (
            rounded_box((0.4, 0.12, 0.38), cloth(rng), radius=0.055, surface=FABRIC)
            .rotated(-0.4, "x")
            .rotated(rng.normal(0, 0.2))
        )
        parts.append(throw.moved(rng.uniform(-0.35, 0.35) * (width - 2 * arm), depth / 2 - 0.42, seat + 0.05))
    return merge(*parts)


def corner_sofa(rng: np.random.Generator) -> list[Part]:
    """L-shaped sofa: a couch with a chaise at one end."""
    couch = _couch(rng, rng.uniform(1.9, 2.4), 3)
    low, high = couch.bounds
    side = rng.choice([-1, 1])
    color = tuple(float(c) for c in couch.colors[0])
    size = (rng.uniform(0.75, 0.9), rng.uniform(0.6, 0.8))
    x = side * (high[0] - size[0] / 2)
    block = rounded_box((size[0], size[1] + 0.1, 0.3), color, (x, low[1] - size[1] / 2 + 0.05, 0.03), 0.05, FABRIC)
    pad = rounded_box((size[0], size[1] + 0.1, 0.14), color, (x, low[1] - size[1] / 2 + 0.05, 0.3), 0.05, FABRIC, bulge=0.02)
    return [Part("sofa", merge(couch, block, pad).moved(0, size[1] / 2, 0))]


def chesterfield(rng: np.random.Generator) -> list[Part]:
    """Sofa with back and arms of one height and rolled edges (validation only)."""
    width, depth, height = rng.uniform([1.5, 0.8, 0.68], [2.2, 0.95, 0.78])
    color = cloth(rng)
    parts = [
        rounded_box((width, depth, 0.28), color, (0, 0, 0.06), 0.05, FABRIC),
        rounded_box((width, 0.16, height - 0.1), color, (0, depth / 2 - 0.1, 0.06), 0.07, FABRIC),
        rounded_box((width - 0.3, depth - 0.15, 0.14), tinted(color, 1.1), (0, -0.05, 0.32), 0.06, FABRIC, bulge=0.03),
        *[box((0.06, 0.06, 0.08), wood(rng), (sx * width * 0.42, sy * depth * 0.4, 0)) for sx in (-1, 1) for sy in (-1, 1)],
    ]
    for sx in (-1, 1):
        parts.append(rounded_box((0.16, depth, height - 0.1), color, (sx * (width / 2 - 0.08), 0, 0.06), 0.07, FABRIC))
        roll = cylinder(0.1, depth, color, segments=14, surface=FABRIC).rotated(np.pi / 2, "x")
        parts.append(roll.moved(sx * (width / 2 - 0.06), depth / 2, height - 0.1))
    back = (
        cylinder(0.1, width, color, segments=14, surface=FABRIC)
        .rotated(np.pi / 2, "y")
        .moved(-width / 2, depth / 2 - 0.08, height - 0.1)
    )
    return [Part("sofa", merge(*parts, back))]


def bed(rng: np.random.Generator) -> list[Part]:
    """Bed: frame on legs, mattress with blanket, pillows, headboard and sometimes a foot board; head at +y."""
    width, length, top = rng.choice([0.95, 1.25, 1.45, 1.65, 1.85]), rng.uniform(1.95, 2.15), rng.uniform(0.42, 0.62)
    frame = paint(rng)
    legs = [
        box((0.07, 0.07, top - 0.25), frame, (sx * (width / 2 - 0.05), sy * (length / 2 - 0.05), 0), GRAIN)
        for sx in (-1, 1)
        for sy in (-1, 1)
    ]
    parts = [*legs, box((width, length, 0.14), frame, (0, 0, top - 0.34), GRAIN)]
    if rng.random() < 0.75:
        parts.append(box((width + 0.04, 0.05, rng.uniform(0.8, 1.2)), frame, (0, length / 2 + 0.02, 0), GRAIN))
    if rng.random() < 0.3:
        parts.append(box((width + 0.04, 0.05, top + 0.05), frame, (0, -length / 2 - 0.02, 0), GRAIN))
    return [Part("bed", merge(*parts, _bedding(rng, width, length, top)))]


def _bedding(rng: np.random.Generator, width: float, length: float, top: float) -> Mesh:
    linen = white(rng)
    cover = cloth(rng) if rng.random() < 0.7 else linen
    parts = [rounded_box((width - 0.03, length - 0.03, 0.2), linen, (0, 0, top - 0.2), 0.05, FABRIC)]
    reach = rng.uniform(0.55, 0.75) * length
    blanket = rounded_box(
        (width + 0.05, reach, 0.26), cover, (0, -length / 2 + reach / 2, top - 0.22), 0.05, FABRIC, bulge=0.02
    )
    waves = blanket.vertices[:, 0] * rng.uniform(6, 12) + blanket.vertices[:, 1] * rng.uniform(3, 9)
    blanket.vertices[:, 2] += (0.012 * np.sin(waves)).astype(np.float32)
    parts.append(blanket)
    count = 2 if width > 1.2 else 1
    for index in range(count):
        x = (index - (count - 1) / 2) * width / 2
        pillow = rounded_box(
            (min(0.65, width / count - 0.1), 0.4, 0.1),
            white(rng) if rng.random() < 0.6 else cover,
            radius=0.045,
            surface=FABRIC,
            bulge=0.05,
        )
        parts.append(pillow.rotated(rng.normal(0, 0.1)).moved(x, length / 2 - 0.28, top - 0.01))
    return merge(*parts)


def box_spring(rng: np.random.Generator) -> list[Part]:
    """Bed with an upholstered base down to the floor and a padded headboard (validation only)."""
    width, length, top = rng.choice([1.45, 1.65, 1.85]), rng.uniform(2.0, 2.15), rng.uniform(0.55, 0.68)
    color = cloth(rng)
    base = rounded_box((width, length, top - 0.2), color, (0, 0, 0.02), 0.03, FABRIC)
    pads = [
        rounded_box(
            (width / 4, 0.1, rng.uniform(0.45, 0.6)), color, ((i - 1.5) * width / 4, length / 2 + 0.04, top - 0.1), 0.04, FABRIC
        )
        for i in range(4)
    ]
    return [Part("bed", merge(base, *pads, _bedding(rng, width, length, top)))]


def stool(rng: np.random.Generator) -> list[Part]:
    """Round stool or square ottoman."""
    height, radius = rng.uniform(0.4, 0.65), rng.uniform(0.16, 0.22)
    if rng.random() < 0.4:
        return [
            Part(
                "otherfurniture",
                rounded_box((2.4 * radius, 2.4 * radius, height * 0.8), cloth(rng), radius=0.05, surface=FABRIC, bulge=0.02),
            )
        ]
    color = wood(rng)
    legs = [
        bar((radius * c, radius * s, 0), (0.6 * radius * c, 0.6 * radius * s, height - 0.02), 0.03, color, METAL)
        for c, s in [(np.cos(a), np.sin(a)) for a in np.arange(4) * np.pi / 2 + 0.4]
    ]
    seat = lathe(
        [(0, 0), (radius, 0), (radius, 0.03), (radius * 0.9, 0.05), (0, 0.05)], color, (0, 0, height - 0.05), surface=GRAIN
    )
    return [Part("otherfurniture", merge(*legs, seat))]
