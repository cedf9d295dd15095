"""The room itself: walls with doors and windows, what hangs on them, and small things on the floor."""

from __future__ import annotations

from pc3d.synth.furniture import Stock, openings
from pc3d.synth.furniture.parts import Part, cloth, grey, hsv, moved, rotated, tinted, white, wood
from pc3d.synth.layout import WALL_ANGLES, Layout, Opening
from pc3d.synth.primitives import FABRIC, PLAIN, PLANK, TILE, Mesh, box, make_mesh, merge, panel

#: Doors and windows of a room, at least and at most; elsewhere one or two doors and one to three windows.
DOORS = {"corridor": (3, 7)}
WINDOWS = {"bathroom": (0, 1), "corridor": (0, 1)}


def add_openings(layout: Layout, kind: str) -> None:
    """Put doors and windows into the walls, as befits the kind of room."""
    rng = layout.rng
    doors, windows = (rng.integers(low, high + 1) for low, high in (DOORS.get(kind, (1, 2)), WINDOWS.get(kind, (1, 3))))
    for wanted in ["door"] * int(doors) + ["window"] * int(windows):
        for _ in range(20):
            wall = int(rng.integers(4))
            hole = _draw_hole(layout, wall, wanted)
            if hole and layout.free_on_wall(wall, hole, 0.25):
                _open_wall(layout, wall, wanted, hole, 0.15 if kind == "bathroom" else 0.5)
                break


def _draw_hole(layout: Layout, wall: int, wanted: str) -> Opening | None:
    """Where a door or window of common size could be; None where the wall is too short."""
    rng = layout.rng
    if wanted == "door":
        width, height, low = (
            rng.uniform(1.3, 1.8) if rng.random() < 0.1 else rng.uniform(0.75, 0.98),
            rng.uniform(1.95, 2.15),
            0.0,
        )
    elif rng.random() < 0.15:
        width, height, low = rng.uniform(0.9, 2.6), rng.uniform(1.9, 2.1), rng.uniform(0.05, 0.2)  # down to the floor
    else:
        width, low = rng.uniform(0.6, 2.6), rng.uniform(0.75, 1.15)
        height = min(rng.uniform(0.9, 1.6), layout.size[2] - low - 0.25)
    slack = layout.wall_length(wall) - width - 0.3
    if slack <= 0:
        return None
    u = width / 2 + 0.15 + slack * rng.random()
    return u - width / 2, u + width / 2, low, low + height


def _open_wall(layout: Layout, wall: int, wanted: str, hole: Opening, curtain_share: float) -> None:
    rng, u, width, low, height = layout.rng, (hole[0] + hole[1]) / 2, hole[1] - hole[0], hole[2], hole[3] - hole[2]
    x, y = layout.on_wall(wall, u)
    if wanted == "window":
        layout.holes[wall].append(hole)
        layout.parts += moved(rotated([openings.window(rng, width, height)], WALL_ANGLES[wall]), x, y, low)
        if rng.random() < curtain_share:
            top, reach = min(low + height + 0.2, layout.size[2] - 0.05), rng.choice([0.08, max(low - 0.1, 0.04)])
            layout.hang(wall, u, 0.0, openings.curtains(rng, width, reach, top))
        return
    layout.passage(wall, u, width, hole[3])
    layout.parts += moved(rotated([openings.door(rng, width, height)], WALL_ANGLES[wall]), x, y)


def add_pictures(layout: Layout) -> None:
    """Hang one to four pictures where the walls are free."""
    rng = layout.rng
    for _ in range(rng.integers(1, 5)):
        frame = openings.picture(rng)
        low, high = frame.mesh.bounds
        for _ in range(10):
            wall, z = int(rng.integers(4)), rng.uniform(1.2, 1.6)
            u = rng.uniform(0.5, layout.wall_length(wall) - 0.5)
            if z + high[2] < layout.size[2] - 0.1 and layout.free_on_wall(wall, (u + low[0], u + high[0], z, z + high[2])):
                layout.hang(wall, u, z, [frame])
                break


def add_small_things(layout: Layout, stock: Stock) -> None:
    """Leave up to three small pieces of furniture (otherfurniture) about the room, and perhaps a rug."""
    rng = layout.rng
    for _ in range(rng.integers(1, 4)):
        thing = stock.make("otherfurniture", rng)
        if rng.random() < 0.3:
            layout.place_free(thing)
        else:
            layout.place_at_wall(thing)
    if rng.random() < 0.5:
        size = rng.uniform([1.2, 0.9, 0.008], [2.4, 1.7, 0.02])
        x, y = layout.size[:2] * rng.uniform(0.35, 0.65, 2)
        if (size[:2] < layout.size[:2] * 0.6).all():
            layout.parts.append(Part("", box(size, cloth(rng), (x, y, 0), FABRIC)))


def build_shell(layout: Layout) -> Mesh:
    """Floor, ceiling, walls with their holes, base boards, and what is solid."""
    rng, (x, y, z) = layout.rng, layout.size
    floor_kind = rng.choice([PLANK, TILE, FABRIC, PLAIN])
    floor = {PLANK: wood, TILE: white, FABRIC: cloth, PLAIN: grey}[int(floor_kind)](rng)
    wall_color = white(rng) if rng.random() < 0.6 else hsv(rng.random(), rng.uniform(0.05, 0.35), rng.uniform(0.6, 0.95))
    square = [[0, 1, 2], [0, 2, 3]]
    parts = [
        make_mesh([(0, 0, 0), (x, 0, 0), (x, y, 0), (0, y, 0)], square, floor, int(floor_kind)),
        make_mesh([(0, 0, z), (x, 0, z), (x, y, z), (0, y, z)], square, white(rng)),
    ]
    skirting = tinted(wall_color, 0.8) if rng.random() < 0.5 else white(rng)
    parts += [box((x1 - x0, y1 - y0, z), wall_color, ((x0 + x1) / 2, (y0 + y1) / 2, 0)) for x0, y0, x1, y1 in layout.blocks]
    for wall in sorted({0, 1, 2, 3} - layout.missing):
        length = layout.wall_length(wall)
        accent = hsv(rng.random(), 0.3, 0.7) if rng.random() < 0.12 else wall_color
        mesh = panel(length, z, layout.holes[wall], accent)
        breaks = [
            0.0,
            *[u for hole in sorted(layout.holes[wall]) if hole[2] == 0 for u in (hole[0] - 0.1, hole[1] + 0.1)],
            length,
        ]
        boards = [
            box((b - a, 0.012, 0.07), skirting, ((a + b) / 2, -0.006, 0)) for a, b in zip(breaks[::2], breaks[1::2]) if b > a
        ]
        px, py = layout.on_wall(wall, 0.0)
        parts.append(merge(mesh, *boards).rotated(WALL_ANGLES[wall]).moved(px, py))
    return merge(*parts)
