"""Small things that lie, stand and hang about: nobody labels them. The origin is below their middle (on the wall: y = 0)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pc3d.synth.furniture.parts import cloth, grey, hsv, tinted, white, wood
from pc3d.synth.primitives import FABRIC, METAL, SCREEN, Mesh, box, cylinder, lathe, merge, rounded_box, sheet

Thing = Callable[[np.random.Generator], Mesh]


def cup(rng: np.random.Generator) -> Mesh:
    """Cup, glass, can or jar."""
    return cylinder(rng.uniform(0.03, 0.06), rng.uniform(0.07, 0.16), _any(rng), segments=10)


def bottle(rng: np.random.Generator) -> Mesh:
    """Bottle, vase or spray can."""
    radius, height = rng.uniform(0.03, 0.06), rng.uniform(0.18, 0.36)
    return lathe(
        [(0, 0), (radius, 0), (radius, 0.6 * height), (0.4 * radius, 0.75 * height), (0.4 * radius, height), (0, height)],
        _any(rng),
        segments=10,
    )


def bowl(rng: np.random.Generator) -> Mesh:
    """Plate or bowl, sometimes with something in it."""
    radius, height = rng.uniform(0.08, 0.16), rng.choice([0.02, 0.06, 0.1])
    color = white(rng) if rng.random() < 0.6 else _any(rng)
    dish = lathe([(0, 0.004), (0.5 * radius, 0), (radius, height), (0.45 * radius, 0.012), (0, 0.012)], color, segments=14)
    food = rounded_box((radius, radius, height + 0.02), _any(rng), radius=0.03)
    return merge(dish, food) if rng.random() < 0.4 else dish


def books(rng: np.random.Generator) -> Mesh:
    """A pile of books or folders."""
    return merge(
        *[
            box((rng.uniform(0.14, 0.22), rng.uniform(0.2, 0.3), 0.03), _any(rng), (0, 0, 0.03 * level)).rotated(
                rng.normal(0, 0.15)
            )
            for level in range(rng.integers(1, 7))
        ]
    )


def papers(rng: np.random.Generator) -> Mesh:
    """Sheets of paper, magazines, a place mat or a tablet."""
    color = white(rng) if rng.random() < 0.7 else _any(rng)
    return merge(
        *[
            box(
                (0.21, 0.3, rng.uniform(0.003, 0.015)), tinted(color, rng.uniform(0.9, 1.1)), (*rng.normal(0, 0.06, 2), 0)
            ).rotated(rng.normal(0, 0.3))
            for _ in range(rng.integers(1, 4))
        ]
    )


def carton(rng: np.random.Generator) -> Mesh:
    """Box, packet, toaster, printer or microwave oven."""
    size = rng.uniform([0.08, 0.08, 0.05], [0.42, 0.32, 0.3])
    return rounded_box(size, hsv(0.09, 0.4, rng.uniform(0.45, 0.8)) if rng.random() < 0.4 else _any(rng), radius=0.015)


def laptop(rng: np.random.Generator) -> Mesh:
    """Open laptop."""
    color = grey(rng)
    lid = box((0.33, 0.015, 0.23), color).rotated(-rng.uniform(0.1, 0.6), "x").moved(0, 0.12, 0.02)
    return merge(box((0.33, 0.23, 0.02), tinted(color, 0.8)), lid.covered(SCREEN))


def screen(rng: np.random.Generator) -> Mesh:
    """Computer screen on its foot with keyboard and mouse before it."""
    width, dark = rng.uniform(0.45, 0.7), hsv(0.6, 0.1, rng.uniform(0.03, 0.18))
    height = 0.58 * width
    panel = merge(box((width, 0.035, height), dark, (0, 0.1, 0.12)), box((0.05, 0.03, 0.2), dark, (0, 0.13, 0)))
    face = box((width - 0.03, 0.005, height - 0.03), hsv(rng.random(), 0.2, rng.uniform(0.05, 0.5)), (0, 0.08, 0.135))
    keys = box((0.43, 0.14, 0.02), grey(rng), (rng.normal(0, 0.05), -0.2, 0))
    return merge(
        box((0.24, 0.18, 0.015), dark, (0, 0.1, 0)),
        panel,
        face.covered(SCREEN),
        keys,
        rounded_box((0.06, 0.1, 0.035), grey(rng), (0.3, -0.2, 0), 0.015),
    )


def plant(rng: np.random.Generator) -> Mesh:
    """Pot with a bunch of leaves."""
    radius, height = rng.uniform(0.05, 0.1), rng.uniform(0.2, 0.45)
    green = hsv(rng.uniform(0.22, 0.38), rng.uniform(0.4, 0.8), rng.uniform(0.2, 0.55))
    leaves = []
    for angle in rng.uniform(0, 2 * np.pi, rng.integers(6, 14)):
        reach, rise = rng.uniform(0.08, 0.25), rng.uniform(0.4, 1.0) * height
        leaf = np.zeros((3, 2, 3))
        leaf[:, :, 0] = np.array([0.0, 0.6 * reach, reach])[:, None]
        leaf[:, :, 1] = np.array([[-0.01, 0.01], [-0.05, 0.05], [-0.01, 0.01]])
        leaf[:, :, 2] = radius + np.array([0.0, rise, 0.85 * rise])[:, None]
        leaves.append(sheet(leaf, tinted(green, rng.uniform(0.7, 1.3))).rotated(angle))
    pot = lathe([(0, 0), (0.8 * radius, 0), (radius, 1.6 * radius), (0, 1.5 * radius)], _any(rng), segments=12)
    return merge(pot, *leaves)


def lamp(rng: np.random.Generator) -> Mesh:
    """Table lamp with a shade."""
    radius, rise = rng.uniform(0.09, 0.16), rng.uniform(0.15, 0.3)
    return merge(
        cylinder(0.07, 0.03, grey(rng), segments=12),
        cylinder(0.015, rise, grey(rng), segments=6),
        lathe([(radius, 0), (radius * rng.uniform(0.5, 0.9), 0.18)], white(rng), (0, 0, rise), 14),
    )


def bag(rng: np.random.Generator) -> Mesh:
    """Back pack, hand bag or full plastic bag: a slumped block."""
    size = rng.uniform([0.22, 0.14, 0.2], [0.42, 0.28, 0.48])
    mesh = rounded_box(size, cloth(rng), radius=0.07, surface=FABRIC)
    return mesh.rotated(rng.normal(0, 0.12), "x").moved(0, 0, 0.01)


def pillow(rng: np.random.Generator) -> Mesh:
    """Cushion, lying or leaning."""
    side = rng.uniform(0.35, 0.5)
    mesh = rounded_box((side, side * rng.uniform(0.7, 1), 0.1), cloth(rng), radius=0.05, surface=FABRIC, bulge=0.04)
    return mesh.rotated(rng.choice([0.0, 0.9]), "x").moved(0, 0, 0.05)


def blanket(rng: np.random.Generator) -> Mesh:
    """Crumpled blanket, jacket or towel: a low wavy heap."""
    width, depth = rng.uniform(0.35, 0.9), rng.uniform(0.3, 0.6)
    x, y = np.meshgrid(np.linspace(-1, 1, 14), np.linspace(-1, 1, 10), indexing="ij")
    edge = np.clip((1 - x**4) * (1 - y**4), 0, 1)
    waves = 0.5 + 0.25 * np.sin(rng.uniform(3, 8) * x + rng.uniform(0, 6)) + 0.25 * np.sin(rng.uniform(3, 8) * y + 2 * x)
    grid = np.stack([x * width / 2, y * depth / 2, edge * (0.03 + rng.uniform(0.02, 0.12) * waves)], axis=-1)
    return sheet(grid, cloth(rng), FABRIC)


def shoes(rng: np.random.Generator) -> Mesh:
    """A pair of shoes."""
    one = rounded_box((0.1, 0.28, rng.uniform(0.08, 0.16)), _any(rng), radius=0.04)
    return merge(one.rotated(rng.normal(0, 0.3)), one.rotated(rng.normal(0, 0.3)).moved(rng.uniform(0.12, 0.25)))


def tall_plant(rng: np.random.Generator) -> Mesh:
    """Plant that stands on the floor."""
    size = rng.uniform(1.8, 3.5)
    return plant(rng).scaled(size, size, size)


def case(rng: np.random.Generator) -> Mesh:
    """Suitcase, computer, big carton or toy box on the floor."""
    size = rng.uniform([0.2, 0.25, 0.25], [0.55, 0.5, 0.6])
    color = hsv(0.09, rng.uniform(0.3, 0.5), rng.uniform(0.45, 0.75)) if rng.random() < 0.5 else _any(rng)
    return rounded_box(size, color, radius=0.02)


def clothes(rng: np.random.Generator) -> Mesh:
    """Heap of clothes."""
    return blanket(rng).scaled(0.8, 0.9, rng.uniform(1.0, 2.5))


def radiator(rng: np.random.Generator) -> Mesh:
    """Ribbed or plain radiator below a window."""
    width, height = rng.uniform(0.6, 1.6), rng.uniform(0.45, 0.7)
    color = white(rng)
    ribs = [box((0.05, 0.09, height), color, (x, -0.09, 0)) for x in np.arange(-width / 2, width / 2, 0.075)]
    return merge(box((width, 0.04, height - 0.06), tinted(color, 0.9), (0, -0.07, 0.03)), *ribs)


def board(rng: np.random.Generator) -> Mesh:
    """White board, black board or notice board with notes."""
    width, height = rng.uniform([0.8, 0.7], [2.4, 1.2])
    face = [hsv(0, 0, rng.uniform(0.85, 1)), hsv(0.4, 0.3, 0.25), hsv(0.09, 0.5, 0.6)][rng.choice(3, p=[0.7, 0.1, 0.2])]
    parts = [
        box((width, 0.02, height), grey(rng), (0, -0.01, 0)),
        box((width - 0.06, 0.005, height - 0.06), face, (0, -0.022, 0.03)),
        box((0.5 * width, 0.07, 0.02), grey(rng), (0, -0.04, 0)),
    ]
    parts += [
        box((0.2, 0.004, 0.2), _any(rng), (rng.uniform(-0.4, 0.4) * width, -0.027, rng.uniform(0.1, 0.7) * height))
        for _ in range(rng.integers(0, 6))
    ]
    return merge(*parts)


def television(rng: np.random.Generator) -> Mesh:
    """Flat screen on the wall."""
    width = rng.uniform(0.8, 1.4)
    dark = hsv(0.6, 0.1, rng.uniform(0.03, 0.12))
    return merge(
        box((width, 0.06, 0.58 * width), dark, (0, -0.05, 0)),
        box((width - 0.04, 0.005, 0.58 * width - 0.04), dark, (0, -0.083, 0.02)).covered(SCREEN),
    )


def wall_trifle(rng: np.random.Generator) -> Mesh:
    """Clock, light switch, thermostat, soap dispenser or fire bell."""
    if rng.random() < 0.3:
        return cylinder(rng.uniform(0.1, 0.18), 0.04, white(rng), segments=18).rotated(np.pi / 2, "x").moved(0, 0, 0.15)
    size = rng.uniform([0.08, 0.02, 0.08], [0.3, 0.12, 0.35])
    return box(size, white(rng) if rng.random() < 0.6 else _any(rng), (0, -size[1] / 2, 0))


def coats(rng: np.random.Generator) -> Mesh:
    """Coats and bags on hooks."""
    hanging = [
        rounded_box(
            (rng.uniform(0.25, 0.45), rng.uniform(0.1, 0.22), length), cloth(rng), (x, -0.12, 1.0 - length), 0.06, FABRIC
        )
        for x, length in zip(np.arange(rng.integers(1, 5)) * 0.28, rng.uniform(0.5, 1.0, 4))
    ]
    return merge(box((0.28 * len(hanging), 0.03, 0.1), wood(rng), (0.14 * (len(hanging) - 1), -0.02, 0.95)), *hanging)


def towel(rng: np.random.Generator) -> Mesh:
    """Towel on a rail."""
    width, length = rng.uniform(0.35, 0.6), rng.uniform(0.4, 0.8)
    rail = box((width + 0.1, 0.03, 0.03), grey(rng), (0, -0.07, length), METAL)
    return merge(rail, rounded_box((width, 0.07, length), cloth(rng), (0, -0.07, 0.02), 0.02, FABRIC))


def _any(rng: np.random.Generator) -> tuple[float, float, float]:
    """Any colour; greys and whites come often."""
    return grey(rng) if rng.random() < 0.25 else hsv(rng.random(), rng.uniform(0.05, 0.85), rng.uniform(0.15, 0.95))


#: What lies where: on a kind of place, things and how often each comes.
ON_TABLES: dict[Thing, float] = {
    cup: 3,
    bottle: 2,
    bowl: 3,
    books: 1.5,
    papers: 3,
    carton: 1.5,
    laptop: 1,
    plant: 1,
    bag: 0.7,
    lamp: 0.2,
}
ON_DESKS: dict[Thing, float] = {
    cup: 2,
    bottle: 1,
    books: 2,
    papers: 4,
    carton: 1.5,
    laptop: 1.5,
    screen: 2.5,
    plant: 0.6,
    lamp: 0.8,
    bag: 0.5,
}
ON_COUNTERS: dict[Thing, float] = {cup: 3, bottle: 4, bowl: 3, carton: 3, papers: 1, plant: 0.5, bag: 0.5}
ON_CABINETS: dict[Thing, float] = {
    cup: 1,
    bottle: 1.5,
    bowl: 1,
    books: 2,
    papers: 1,
    carton: 3,
    plant: 1.5,
    lamp: 1.5,
    bag: 0.5,
    screen: 0.5,
}
ON_SEATS: dict[Thing, float] = {pillow: 3, blanket: 3, bag: 1.5, books: 0.5, papers: 0.7, clothes: 1.5}
ON_FLOORS: dict[Thing, float] = {case: 3, bag: 3, shoes: 3, tall_plant: 1.5, carton: 2, clothes: 1, books: 0.7, blanket: 0.5}


def draw(things: dict[Thing, float], rng: np.random.Generator) -> Mesh:
    """One of ``things``, by its weight."""
    weights = np.array(list(things.values()))
    return list(things)[rng.choice(len(weights), p=weights / weights.sum())](rng)
