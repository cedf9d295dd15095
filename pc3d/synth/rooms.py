"""Procedural rooms: a type of room decides what stands in it, the layout decides where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import ConfigError, explain
from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.furniture import Stock, bath, storage, surfaces
from pc3d.synth.furniture.parts import Part
from pc3d.synth.groups import around, bed_group, desk_group, dining_table, kitchen_group, sofa_group, television
from pc3d.synth.layout import Layout, Rect
from pc3d.synth.primitives import Mesh, merge, rotation
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
    layout.place_at_wall(television(rng, stock))
    if rng.random() < 0.7:
        layout.place_free(around(rng, dining_table(rng, stock), int(rng.integers(2, 7)), stock), middle=True)
    _some(layout, stock, "bookshelf", 0, 2)
    _some(layout, stock, "cabinet", 0, 2)
    _some(layout, stock, "chair", 0, 2)


def _bedroom(layout: Layout, stock: Stock) -> None:
    rng = layout.rng
    if layout.place_at_wall(bed_group(rng, stock)) is None:
        layout.place_at_wall(stock.make("bed", rng))
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
    if rng.random() < 0.3:
        layout.place_at_wall(stock.make("sofa", rng))


def _kitchen(layout: Layout, stock: Stock) -> None:
    rng = layout.rng
    for width, wall_units in ((rng.uniform(2.2, 3.4), True), (1.8, True), (2.2, False), (1.3, False)):
        if layout.place_at_wall(kitchen_group(rng, width, wall_units)) is not None:
            break
    if rng.random() < 0.4:
        layout.place_at_wall(surfaces.kitchen_run(rng, rng.uniform(1.0, 2.0)))
    layout.place_free(around(rng, dining_table(rng, stock), int(rng.integers(2, 7)), stock), middle=True)
    _some(layout, stock, "cabinet", 0, 2)


def _bathroom(layout: Layout, stock: Stock) -> None:
    rng = layout.rng
    tub = bath.tub_with_curtain(rng)
    if rng.random() < 0.2 or layout.place_at_wall(tub) is None:
        layout.place_at_wall(tub[:1])
    _some(layout, stock, "toilet", 1, 1)
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


#: What may stand along the walls besides, by kind of room.
_EXTRAS = {
    "living": ("bookshelf", "cabinet", "chair", "sofa", "sofa", "desk"),
    "bedroom": ("cabinet", "chair", "bookshelf", "desk", "sofa"),
    "office": ("sofa", "bookshelf", "chair", "table", "refrigerator"),
    "kitchen": ("cabinet", "refrigerator", "chair", "counter"),
    "bathroom": ("cabinet", "sink", "toilet", "chair"),
    "meeting": ("sofa", "bookshelf", "chair", "desk", "counter"),
}


def _add_extras(layout: Layout, kind: str, stock: Stock) -> None:
    for _ in range(layout.rng.integers(1, 5)):
        layout.place_at_wall(stock.make(str(layout.rng.choice(_EXTRAS[kind])), layout.rng))


RECIPES: dict[str, Callable[[Layout, Stock], None]] = {
    "living": _living,
    "bedroom": _bedroom,
    "office": _office,
    "kitchen": _kitchen,
    "bathroom": _bathroom,
    "meeting": _meeting,
}
_SHARES = {"living": 0.21, "bedroom": 0.2, "office": 0.15, "kitchen": 0.17, "bathroom": 0.19, "meeting": 0.08}


def make_room(rng: np.random.Generator, *, kind: str | None = None, stock: Stock | None = None) -> Room:
    """Draw a furnished room of 3-7 x 3-6 x 2.4-2.9 m; ``kind`` fixes its type, ``stock`` says what it is furnished from.

    Raises ConfigError for an unknown kind.
    """
    if kind is not None and kind not in RECIPES:
        raise ConfigError(
            explain("unknown kind of room", where="kind", got=repr(kind), expected=f"one of {', '.join(RECIPES)}")
        )
    drawn = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
    chosen = kind or drawn
    room_for = np.array([1.2, 0.8, 0.2] if chosen == "bathroom" else [4.0, 3.0, 0.5])
    size = np.array([3.0, 3.0, 2.4]) + room_for * rng.beta(1.4, 2.4, 3)
    layout, stock = Layout(size, rng), stock or Stock()
    add_openings(layout, chosen)
    RECIPES[chosen](layout, stock)
    _add_extras(layout, chosen, stock)
    add_pictures(layout)
    add_small_things(layout, stock)
    return _assemble(layout, chosen)


def _assemble(layout: Layout, kind: str) -> Room:
    shell = Part("", build_shell(layout))
    parts = [shell, *layout.parts]
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
