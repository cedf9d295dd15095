"""Procedural rooms: a type of room decides what stands in it, the layout decides where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import ConfigError, explain
from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.furniture import bath, make, openings, seating, storage, surfaces
from pc3d.synth.furniture.parts import Part, bounds, cloth, clutter, grey, hsv, moved, rotated, tinted, white, wood
from pc3d.synth.layout import WALL_ANGLES, Layout, Rect
from pc3d.synth.primitives import FABRIC, PLAIN, PLANK, TILE, Mesh, box, make_mesh, merge, panel, rotation


@dataclass(frozen=True, eq=False)
class Room:
    """A furnished room: triangles with their class and instance (-1: structure or clutter), and the space people walk in."""

    mesh: Mesh
    face_labels: NDArray[np.int32]         # (F,) index into SCANNET_CLASSES, -1 none
    face_instances: NDArray[np.int32]      # (F,) -1 none
    size: NDArray[np.float64]              # (3,) metres, one corner at the origin
    rects: tuple[Rect, ...]                # footprints and heights of what stands on the floor
    T_world_room: NDArray[np.float64]      # (4, 4) where the scan puts the room: turned about z, shifted
    kind: str


# ---------------------------------------------------------------------------------------------------- groups

def _around(rng: np.random.Generator, table: list[Part], chairs: int, validation: bool) -> list[Part]:
    """A table with up to ``chairs`` chairs of one kind, each facing it."""
    makers = [seating.four_leg_chair, seating.four_leg_chair, seating.swivel_chair, *([seating.shell_chair] if validation else [])]
    maker = makers[rng.integers(len(makers))]
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


def _dining_table(rng: np.random.Generator, validation: bool) -> list[Part]:
    choices = [surfaces.leg_table, surfaces.round_table, *([surfaces.pedestal_table] if validation else [])]
    return choices[rng.integers(len(choices))](rng)


def _desk_group(rng: np.random.Generator, validation: bool) -> list[Part]:
    table = make("desk", rng, validation)
    low, high = table[0].mesh.bounds
    chair = make("chair", rng, validation)
    deep = float(chair[0].mesh.bounds[1, 1] - chair[0].mesh.bounds[0, 1])
    x = rng.uniform(-0.12, 0.12) * float(high[0] - low[0])
    return [*table, *moved(rotated(chair, np.pi + rng.normal(0, 0.3)), x, float(low[1]) - deep / 2 + rng.uniform(-0.25, 0.1))]


def _bed_group(rng: np.random.Generator, validation: bool) -> list[Part]:
    parts = make("bed", rng, validation)
    low, high = parts[0].mesh.bounds
    for side in (-1, 1):
        if rng.random() < 0.6:
            stand = storage.nightstand(rng)
            box_ = bounds(stand)
            parts += moved(stand, side * (float(high[0]) + float(box_[1, 0]) + rng.uniform(0.02, 0.1)), float(high[1] - box_[1, 1]) - 0.02)
    return parts


def _sofa_group(rng: np.random.Generator, validation: bool) -> list[Part]:
    parts = make("sofa", rng, validation)
    low = parts[0].mesh.bounds[0]
    if rng.random() < 0.75:
        table = surfaces.coffee_table(rng)
        parts += moved(table, rng.uniform(-0.2, 0.2), float(low[1]) - float(bounds(table)[1, 1]) - rng.uniform(0.25, 0.45))
    return parts


def _kitchen_group(rng: np.random.Generator, width: float, wall_units: bool) -> list[Part]:
    """Counter run with a refrigerator at one end, backs in line."""
    fridge = storage.refrigerator(rng)
    low, high = bounds(fridge)
    run = surfaces.kitchen_run(rng, width, wall_units)
    edge = bounds(run)
    side = rng.choice([-1, 1])
    x = side * (width / 2 + float(high[0]) + 0.04)
    return [*run, *moved(fridge, x, float(edge[1, 1] - high[1]))]


def _television(rng: np.random.Generator, validation: bool) -> list[Part]:
    stand = make("cabinet", rng, validation)
    top = float(stand[0].mesh.bounds[1, 2])
    if top > 1.0:
        return stand
    return [stand[0], Part("", surfaces.monitor(rng).scaled(1.7, 1.0, 1.7).moved(0, 0, top))]


# ---------------------------------------------------------------------------------------------------- recipes

def _some(layout: Layout, validation: bool, name: str, low: int, high: int) -> None:
    """Between ``low`` and ``high`` pieces of one class along the walls."""
    for _ in range(layout.rng.integers(low, high + 1)):
        layout.place_at_wall(make(name, layout.rng, validation))


def _living(layout: Layout, validation: bool) -> None:
    rng = layout.rng
    if layout.place_at_wall(_sofa_group(rng, validation)) is None:
        layout.place_at_wall(make("sofa", rng, validation))
    layout.place_at_wall(_television(rng, validation))
    if rng.random() < 0.7:
        layout.place_free(_around(rng, _dining_table(rng, validation), int(rng.integers(2, 7)), validation), middle=True)
    _some(layout, validation, "bookshelf", 0, 2)
    _some(layout, validation, "cabinet", 0, 2)
    _some(layout, validation, "chair", 0, 2)


def _bedroom(layout: Layout, validation: bool) -> None:
    rng = layout.rng
    if layout.place_at_wall(_bed_group(rng, validation)) is None:
        layout.place_at_wall(make("bed", rng, validation))
    layout.place_at_wall(storage.wardrobe(rng)) if rng.random() < 0.7 else None
    layout.place_at_wall(_desk_group(rng, validation)) if rng.random() < 0.6 else None
    _some(layout, validation, "cabinet", 0, 2)
    _some(layout, validation, "bookshelf", 0, 1)
    _some(layout, validation, "chair", 0, 1)


def _office(layout: Layout, validation: bool) -> None:
    rng = layout.rng
    for _ in range(rng.integers(2, 6)):
        layout.place_at_wall(_desk_group(rng, validation))
    _some(layout, validation, "bookshelf", 0, 2)
    _some(layout, validation, "cabinet", 1, 3)
    if rng.random() < 0.4:
        layout.place_free(_around(rng, surfaces.round_table(rng), 3, validation), middle=True)
    if rng.random() < 0.3:
        layout.place_at_wall(make("sofa", rng, validation))


def _kitchen(layout: Layout, validation: bool) -> None:
    rng = layout.rng
    for width, wall_units in ((rng.uniform(2.2, 3.4), True), (1.8, True), (2.2, False), (1.3, False)):
        if layout.place_at_wall(_kitchen_group(rng, width, wall_units)) is not None:
            break
    if rng.random() < 0.4:
        layout.place_at_wall(surfaces.kitchen_run(rng, rng.uniform(1.0, 2.0)))
    layout.place_free(_around(rng, _dining_table(rng, validation), int(rng.integers(2, 7)), validation), middle=True)
    _some(layout, validation, "cabinet", 0, 2)


def _bathroom(layout: Layout, validation: bool) -> None:
    rng = layout.rng
    tub = bath.tub_with_curtain(rng)
    if rng.random() < 0.2 or layout.place_at_wall(tub) is None:
        layout.place_at_wall(tub[:1])
    _some(layout, validation, "toilet", 1, 1)
    _some(layout, validation, "sink", 1, 2)
    _some(layout, validation, "cabinet", 0, 2)


def _meeting(layout: Layout, validation: bool) -> None:
    rng = layout.rng
    table = surfaces.leg_table(rng)
    stretch = rng.uniform(1.0, 1.6)
    wide = [Part(part.name, part.mesh.scaled(stretch, 1.2, 1.0)) if part.name else part for part in table]
    layout.place_free(_around(rng, wide, int(rng.integers(4, 11)), validation), middle=True)
    _some(layout, validation, "cabinet", 0, 2)
    _some(layout, validation, "table", 0, 1)
    _some(layout, validation, "chair", 0, 3)


#: What may stand along the walls besides, by kind of room.
_EXTRAS = {"living": ("bookshelf", "cabinet", "chair", "sofa", "sofa", "desk"), "bedroom": ("cabinet", "chair", "bookshelf", "desk", "sofa"),
           "office": ("sofa", "bookshelf", "chair", "table", "refrigerator"), "kitchen": ("cabinet", "refrigerator", "chair", "counter"),
           "bathroom": ("cabinet", "sink", "toilet", "chair"), "meeting": ("sofa", "bookshelf", "chair", "desk", "counter")}


def _add_extras(layout: Layout, kind: str, validation: bool) -> None:
    for _ in range(layout.rng.integers(1, 5)):
        layout.place_at_wall(make(str(layout.rng.choice(_EXTRAS[kind])), layout.rng, validation))


RECIPES: dict[str, Callable[[Layout, bool], None]] = {
    "living": _living, "bedroom": _bedroom, "office": _office, "kitchen": _kitchen, "bathroom": _bathroom, "meeting": _meeting}
_SHARES = {"living": 0.21, "bedroom": 0.2, "office": 0.15, "kitchen": 0.17, "bathroom": 0.19, "meeting": 0.08}


# ---------------------------------------------------------------------------------------------------- shell

def _add_openings(layout: Layout, kind: str) -> None:
    rng = layout.rng
    for wanted in ["door"] * int(rng.integers(1, 3)) + ["window"] * int(rng.integers(0, 2) if kind == "bathroom" else rng.integers(1, 4)):
        for _ in range(20):
            wall = int(rng.integers(4))
            if wanted == "door":
                width, height, low = rng.uniform(0.75, 0.95), rng.uniform(1.95, 2.1), 0.0
            else:
                width, low = rng.uniform(0.8, 2.2), rng.uniform(0.75, 1.05)
                height = min(rng.uniform(1.0, 1.5), layout.size[2] - low - 0.25)
            u = rng.uniform(width / 2 + 0.15, layout.wall_length(wall) - width / 2 - 0.15)
            hole = (u - width / 2, u + width / 2, low, low + height)
            if layout.free_on_wall(wall, hole, 0.25):
                _open_wall(layout, wall, wanted, hole, 0.15 if kind == "bathroom" else 0.5)
                break


def _open_wall(layout: Layout, wall: int, wanted: str, hole: tuple[float, float, float, float], curtain_share: float) -> None:
    u, width, low, height = (hole[0] + hole[1]) / 2, hole[1] - hole[0], hole[2], hole[3] - hole[2]
    x, y = layout.on_wall(wall, u)
    layout.holes[wall].append(hole)
    if wanted == "window":
        layout.parts += moved(rotated([openings.window(layout.rng, width, height)], WALL_ANGLES[wall]), x, y, low)
        if layout.rng.random() < curtain_share:
            top, reach = min(low + height + 0.2, layout.size[2] - 0.05), layout.rng.choice([0.08, low - 0.1])
            layout.hang(wall, u, 0.0, openings.curtains(layout.rng, width, reach, top))
        return
    leaf = openings.door(layout.rng, width, height)
    layout.parts += moved(rotated([leaf], WALL_ANGLES[wall]), x, y)
    inner = layout.on_wall(wall, hole[0] - 0.1, 0.9), layout.on_wall(wall, hole[1] + 0.1, 0.0)
    corners = np.stack(inner)
    layout.reserved.append((*corners.min(axis=0), *corners.max(axis=0), 2.0))


def _add_pictures(layout: Layout) -> None:
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


def _add_small_things(layout: Layout, validation: bool) -> None:
    rng = layout.rng
    for _ in range(rng.integers(1, 4)):
        thing = make("otherfurniture", rng, validation)
        layout.place_free(thing) if rng.random() < 0.3 else layout.place_at_wall(thing)
    for _ in range(rng.integers(0, 5)):
        layout.place_free([Part("", clutter(rng).scaled(1.5, 1.5, 1.5))])
    if rng.random() < 0.5:
        size = rng.uniform([1.2, 0.9, 0.008], [2.4, 1.7, 0.02])
        x, y = layout.size[:2] * rng.uniform(0.35, 0.65, 2)
        if (size[:2] < layout.size[:2] * 0.6).all():
            layout.parts.append(Part("", box(size, cloth(rng), (x, y, 0), FABRIC)))


def _shell(layout: Layout) -> Mesh:
    """Floor, ceiling, walls with their holes, and base boards."""
    rng, (x, y, z) = layout.rng, layout.size
    floor_kind = rng.choice([PLANK, TILE, FABRIC, PLAIN])
    floor = {PLANK: wood, TILE: white, FABRIC: cloth, PLAIN: grey}[int(floor_kind)](rng)
    wall_color = white(rng) if rng.random() < 0.6 else hsv(rng.random(), rng.uniform(0.05, 0.35), rng.uniform(0.6, 0.95))
    square = [[0, 1, 2], [0, 2, 3]]
    parts = [make_mesh([(0, 0, 0), (x, 0, 0), (x, y, 0), (0, y, 0)], square, floor, int(floor_kind)),
             make_mesh([(0, 0, z), (x, 0, z), (x, y, z), (0, y, z)], square, white(rng))]
    skirting = tinted(wall_color, 0.8) if rng.random() < 0.5 else white(rng)
    for wall in range(4):
        length = layout.wall_length(wall)
        accent = hsv(rng.random(), 0.3, 0.7) if rng.random() < 0.12 else wall_color
        mesh = panel(length, z, layout.holes[wall], accent)
        breaks = [0.0, *[u for hole in sorted(layout.holes[wall]) if hole[2] == 0 for u in (hole[0] - 0.1, hole[1] + 0.1)], length]
        boards = [box((b - a, 0.012, 0.07), skirting, ((a + b) / 2, -0.006, 0)) for a, b in zip(breaks[::2], breaks[1::2]) if b > a]
        px, py = layout.on_wall(wall, 0.0)
        parts.append(merge(mesh, *boards).rotated(WALL_ANGLES[wall]).moved(px, py))
    return merge(*parts)


def make_room(rng: np.random.Generator, *, kind: str | None = None, validation: bool = False) -> Room:
    """Draw a furnished room of 3-7 x 3-6 x 2.4-2.9 m; ``kind`` fixes its type, ``validation`` admits the unseen furniture.

    Raises ConfigError for an unknown kind.
    """
    if kind is not None and kind not in RECIPES:
        raise ConfigError(explain("unknown kind of room", where="kind", got=repr(kind), expected=f"one of {', '.join(RECIPES)}"))
    drawn = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
    chosen = kind or drawn
    room_for = np.array([1.2, 0.8, 0.2] if chosen == "bathroom" else [4.0, 3.0, 0.5])
    size = np.array([3.0, 3.0, 2.4]) + room_for * rng.beta(1.4, 2.4, 3)
    layout = Layout(size, rng)
    _add_openings(layout, chosen)
    RECIPES[chosen](layout, validation)
    _add_extras(layout, chosen, validation)
    _add_pictures(layout)
    _add_small_things(layout, validation)
    return _assemble(layout, chosen)


def _assemble(layout: Layout, kind: str) -> Room:
    shell = Part("", _shell(layout))
    parts = [shell, *layout.parts]
    counts = [len(part.mesh.faces) for part in parts]
    labels = [SCANNET_CLASSES.index(part.name) if part.name else -1 for part in parts]
    named = np.cumsum([label >= 0 for label in labels]) - 1
    instances = np.where(np.array(labels) >= 0, named, -1)
    pose = np.eye(4)
    pose[:3, :3] = rotation(layout.rng.uniform(0, 2 * np.pi))
    pose[:3, 3] = layout.rng.uniform(-0.5, 0.5, 3)
    return Room(merge(*[part.mesh for part in parts]), np.repeat(labels, counts).astype(np.int32),
                np.repeat(instances, counts).astype(np.int32), layout.size, tuple(layout.rects), pose, kind)
