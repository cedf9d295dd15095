"""Procedural rooms: a type of room decides what stands in it, the layout decides where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import ConfigError, explain
from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.clutter import add_clutter
from pc3d.synth.furniture import Stock, bath, storage, surfaces
from pc3d.synth.furniture.openings import door
from pc3d.synth.furniture.parts import Part, moved, rotated, white
from pc3d.synth.groups import around, bed_group, desk_group, dining_table, kitchen_group, sofa_group, television
from pc3d.synth.layout import WALL_ANGLES, Layout, Rect
from pc3d.synth.primitives import Mesh, box, merge, rotation
from pc3d.synth.shell import add_openings, add_pictures, add_small_things, build_shell


@dataclass(frozen=True, eq=False)
class Room:
    """A furnished room: triangles with their class and instance (-1: structure or clutter), and the space people walk in."""

    mesh: Mesh
    face_labels: NDArray[np.int32]  # (F,) index into SCANNET_CLASSES, -1 none
    face_instances: NDArray[np.int32]  # (F,) -1 none
    size: NDArray[np.float64]  # (3,) metres, one corner at the origin
    rects: tuple[Rect, ...]  # footprints and heights of what stands on the floor
    T_world_room: NDArray[np.float64]  # (4, 4) where the scan puts the room: turned about z, shifted
    kind: str


def _some(layout: Layout, stock: Stock, name: str, low: int, high: int) -> None:
    """Between ``low`` and ``high`` pieces of one class along the walls."""
    for _ in range(layout.rng.integers(low, high + 1)):
        layout.place_at_wall(stock.make(name, layout.rng))


def _living(layout: Layout, stock: Stock) -> None:
    rng = layout.rng
    if layout.place_at_wall(sofa_group(rng, stock)) is None:
        layout.place_at_wall(stock.make("sofa", rng))
    _some(layout, stock, "sofa", 0, 1)
    layout.place_at_wall(television(rng, stock))
    if rng.random() < 0.7:
        layout.place_free(around(rng, dining_table(rng, stock), int(rng.integers(2, 7)), stock), middle=True)
    _some(layout, stock, "bookshelf", 0, 2)
    _some(layout, stock, "cabinet", 0, 2)
    _some(layout, stock, "chair", 0, 2)
    _some(layout, stock, "desk", 0, 1)


def _bedroom(layout: Layout, stock: Stock) -> None:
    rng = layout.rng
    if layout.place_at_wall(bed_group(rng, stock)) is None:
        layout.place_at_wall(stock.make("bed", rng))
    _some(layout, stock, "bed", 0, 1)
    if rng.random() < 0.7:
        layout.place_at_wall(storage.wardrobe(rng))
    if rng.random() < 0.6:
        layout.place_at_wall(desk_group(rng, stock))
    _some(layout, stock, "cabinet", 0, 2)
    _some(layout, stock, "bookshelf", 0, 1)
    _some(layout, stock, "chair", 0, 1)


def _office(layout: Layout, stock: Stock) -> None:
    rng = layout.rng
    for _ in range(rng.integers(2, 6)):
        layout.place_at_wall(desk_group(rng, stock))
    _some(layout, stock, "bookshelf", 0, 2)
    _some(layout, stock, "cabinet", 1, 3)
    if rng.random() < 0.4:
        layout.place_free(around(rng, surfaces.round_table(rng), 3, stock), middle=True)
    if rng.random() < 0.5:
        layout.place_at_wall(stock.make("sofa", rng))


def _kitchen(layout: Layout, stock: Stock) -> None:
    rng = layout.rng
    for width, wall_units in ((rng.uniform(2.2, 3.4), True), (1.8, True), (2.2, False), (1.3, False)):
        if layout.place_at_wall(kitchen_group(rng, width, wall_units)) is not None:
            break
    if rng.random() < 0.4:
        layout.place_at_wall(surfaces.kitchen_run(rng, rng.uniform(1.0, 2.0)))
    layout.place_free(around(rng, dining_table(rng, stock), int(rng.integers(2, 7)), stock), middle=True)
    _some(layout, stock, "refrigerator", 0, 1)
    _some(layout, stock, "cabinet", 0, 2)


def _bathroom(layout: Layout, stock: Stock) -> None:
    rng = layout.rng
    tub = bath.tub_with_curtain(rng)
    if rng.random() < 0.2 or layout.place_at_wall(tub) is None:
        layout.place_at_wall(tub[:1])
    _some(layout, stock, "toilet", 1, 2)
    _some(layout, stock, "sink", 1, 2)
    _some(layout, stock, "cabinet", 0, 2)


def _meeting(layout: Layout, stock: Stock) -> None:
    rng = layout.rng
    table = surfaces.leg_table(rng)
    stretch = rng.uniform(1.0, 1.6)
    wide = [Part(part.name, part.mesh.scaled(stretch, 1.2, 1.0)) if part.name else part for part in table]
    layout.place_free(around(rng, wide, int(rng.integers(4, 11)), stock), middle=True)
    _some(layout, stock, "cabinet", 0, 2)
    _some(layout, stock, "table", 0, 1)
    _some(layout, stock, "chair", 0, 3)


def _corridor(layout: Layout, stock: Stock) -> None:
    _some(layout, stock, "cabinet", 1, 4)
    _some(layout, stock, "chair", 0, 3)
    _some(layout, stock, "bookshelf", 0, 2)
    _some(layout, stock, "table", 0, 1)


#: What may stand along the walls besides, by kind of room.
_EXTRAS = {
    "living": ("bookshelf", "cabinet", "chair", "sofa", "sofa", "table", "table", "desk", "counter"),
    "bedroom": ("bed", "chair", "bookshelf", "desk", "sofa", "table"),
    "office": ("sofa", "bookshelf", "chair", "table", "refrigerator", "desk", "sink"),
    "kitchen": ("cabinet", "refrigerator", "chair", "counter", "bookshelf", "table", "sofa"),
    "bathroom": ("cabinet", "sink", "toilet", "bathtub", "toilet"),
    "meeting": ("sofa", "bookshelf", "chair", "desk", "counter", "refrigerator"),
    "corridor": ("sofa", "table", "refrigerator", "desk", "counter"),
}


def _add_extras(layout: Layout, kind: str, stock: Stock) -> None:
    for _ in range(layout.rng.integers(2, 7)):
        layout.place_at_wall(stock.make(str(layout.rng.choice(_EXTRAS[kind])), layout.rng))


RECIPES: dict[str, Callable[[Layout, Stock], None]] = {
    "living": _living,
    "bedroom": _bedroom,
    "office": _office,
    "kitchen": _kitchen,
    "bathroom": _bathroom,
    "meeting": _meeting,
    "corridor": _corridor,
}
#: Two rooms in one scan.
SUITE = "suite"
KINDS = (*RECIPES, SUITE)
_SHARES = (0.18, 0.16, 0.14, 0.15, 0.15, 0.07, 0.07, 0.08)
_SUITES = (
    ("living", "kitchen"),
    ("bedroom", "bathroom"),
    ("office", "meeting"),
    ("corridor", "bathroom"),
    ("corridor", "office"),
    ("bedroom", "bathroom"),
    ("living", "bedroom"),
    ("kitchen", "bathroom"),
)
#: Smallest rooms (metres) and how much larger they get.
_SIZES = {"bathroom": ((2.2, 2.2, 2.3), (2.2, 1.8, 0.5)), "corridor": ((4.5, 1.7, 2.3), (4.0, 1.3, 0.8))}
_SIZE = ((3.0, 2.8, 2.4), (4.2, 3.4, 0.8))
WALL = 0.12  # metres between two rooms


def make_room(rng: np.random.Generator, *, kind: str | None = None, stock: Stock | None = None) -> Room:
    """Draw a furnished room of at most 8.5 x 6.2 x 3.2 m, or two that are joined; ``kind`` fixes its type.

    ``stock`` says what it is furnished from. Raises ConfigError for an unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(explain("unknown kind of room", where="kind", got=repr(kind), expected=f"one of {', '.join(KINDS)}"))
    drawn = str(rng.choice(KINDS, p=_SHARES))
    chosen, stock = kind or drawn, stock or Stock()
    if chosen == SUITE:
        return _assemble(*_suite(rng, stock), chosen)
    layout = Layout(_draw_size(rng, chosen), rng)
    if chosen not in ("bathroom", "corridor"):
        _shape(layout)
    _furnish(layout, chosen, stock)
    return _assemble(layout, build_shell(layout), chosen)


def _draw_size(rng: np.random.Generator, kind: str) -> NDArray[np.float64]:
    smallest, more = _SIZES.get(kind, _SIZE)
    return np.asarray(np.array(smallest) + np.array(more) * rng.beta(1.4, 2.4, 3))


def _shape(layout: Layout) -> None:
    """Now and then cut a corner out of a room (L shape), stand a pillar at a wall, leave a wall out, open one widely."""
    rng, (x, y, _) = layout.rng, layout.size
    if rng.random() < 0.25 and x > 3.8:
        wide, deep = rng.uniform(0.25, 0.45) * x, rng.uniform(0.25, 0.45) * y
        x0, y0 = rng.choice([0, x - wide]), rng.choice([0, y - deep])
        layout.block(x0, y0, x0 + wide, y0 + deep)
    elif rng.random() < 0.3:
        wide, deep, x0 = *rng.uniform(0.2, 0.6, 2), rng.uniform(0.3, x - 0.9)
        y0 = rng.choice([0, y - deep])
        layout.block(x0, y0, x0 + wide, y0 + deep)
    if rng.random() < 0.15:
        layout.leave_out(int(rng.integers(4)))
    elif rng.random() < 0.15:
        wall = int(rng.integers(4))
        wide = rng.uniform(1.0, 0.6 * layout.wall_length(wall))
        u = rng.uniform(wide / 2 + 0.15, layout.wall_length(wall) - wide / 2 - 0.15)
        if layout.free_on_wall(wall, (u - wide / 2, u + wide / 2, 0.0, 2.1)):
            layout.passage(wall, u, wide, rng.uniform(2.1, layout.size[2]))


def _furnish(layout: Layout, kind: str, stock: Stock) -> None:
    add_openings(layout, kind)
    RECIPES[kind](layout, stock)
    _add_extras(layout, kind, stock)
    add_pictures(layout)
    add_small_things(layout, stock)
    add_clutter(layout, kind)


def _suite(rng: np.random.Generator, stock: Stock) -> tuple[Layout, Mesh]:
    """Two rooms side by side with a doorway or a wide passage between them, and their walls."""
    kinds = _SUITES[rng.integers(len(_SUITES))]
    rooms = sorted(((Layout(_draw_size(rng, kind), rng), kind) for kind in kinds), key=lambda room: -room[0].size[1])
    (left, _), (right, _) = rooms
    right.size[2] = left.size[2]
    wide, high = rng.uniform(0.85, 1.0) if rng.random() < 0.6 else rng.uniform(1.2, 1.6), rng.uniform(2.0, 2.2)
    y = rng.uniform(wide / 2 + 0.1, right.size[1] - wide / 2 - 0.1)
    left.passage(3, left.size[1] - y, wide, high)
    right.passage(1, y, wide, high)
    if rng.random() < 0.5:
        left.parts += moved(rotated([door(rng, wide, high, ajar=1.0)], WALL_ANGLES[3]), float(left.size[0]), y)
    for layout, kind in rooms:
        _furnish(layout, kind, stock)
    x, depth, height = (float(v) for v in left.size)
    shift = x + WALL
    whole = Layout(np.array([shift + right.size[0], depth, height]), rng)
    whole.parts = [*left.parts, *moved(right.parts, shift)]
    inner = (
        (x, 0.0, shift, y - wide / 2, height),
        (x, y + wide / 2, shift, depth, height),
        (shift, right.size[1], whole.size[0], depth, height),
    )
    whole.rects = [*left.rects, *((x0 + shift, y0, x1 + shift, y1, top) for x0, y0, x1, y1, top in right.rects), *inner]
    jambs = [box((WALL, 0.02, high), white(rng), (x + WALL / 2, y + side * (wide / 2 + 0.01), 0)) for side in (-1, 1)]
    jambs += [box((WALL, wide, 0.02), white(rng), (x + WALL / 2, y, z)) for z in (-0.02, high)]
    return whole, merge(build_shell(left), build_shell(right).moved(shift), *jambs)


def _assemble(layout: Layout, walls: Mesh, kind: str) -> Room:
    parts = [Part("", walls), *layout.parts]
    counts = [len(part.mesh.faces) for part in parts]
    labels = [SCANNET_CLASSES.index(part.name) if part.name else -1 for part in parts]
    named = np.cumsum([label >= 0 for label in labels]) - 1
    instances = np.where(np.array(labels) >= 0, named, -1)
    pose = np.eye(4)
    pose[:3, :3] = rotation(layout.rng.uniform(0, 2 * np.pi))
    pose[:3, 3] = layout.rng.uniform(-0.5, 0.5, 3)
    return Room(
        merge(*[part.mesh for part in parts]),
        np.repeat(labels, counts).astype(np.int32),
        np.repeat(instances, counts).astype(np.int32),
        layout.size,
        tuple(layout.rects),
        pose,
        kind,
    )
