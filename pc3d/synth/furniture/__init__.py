"""Parametric furniture: a maker draws size, proportions, style and colours from ``rng`` and returns parts.

Local frame: origin on the floor in the middle of the footprint, z up, the front looks to -y and the back to +y.
A ``Part`` with a class name is one instance; a part without (name "") is clutter that nobody labels.
``MAKERS`` lists what every split draws from, ``VALIDATION_MAKERS`` what only validation rooms may show besides.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pc3d.synth.furniture import bath, openings, seating, storage, surfaces
from pc3d.synth.furniture.parts import Part

Maker = Callable[[np.random.Generator], list[Part]]

MAKERS: dict[str, list[Maker]] = {
    "cabinet": [storage.door_cabinet, storage.dresser, storage.wardrobe],
    "bed": [seating.bed],
    "chair": [seating.four_leg_chair, seating.swivel_chair, seating.armchair],
    "sofa": [seating.sofa, seating.corner_sofa],
    "table": [surfaces.leg_table, surfaces.round_table, surfaces.coffee_table],
    "desk": [surfaces.desk],
    "bookshelf": [storage.bookshelf],
    "counter": [surfaces.counter],
    "refrigerator": [storage.refrigerator],
    "toilet": [bath.toilet],
    "sink": [bath.wash_basin],
    "bathtub": [bath.bathtub],
    "otherfurniture": [storage.floor_lamp, storage.bin_, storage.crate, seating.stool],
}

VALIDATION_MAKERS: dict[str, list[Maker]] = {
    "chair": [seating.shell_chair],
    "table": [surfaces.pedestal_table],
    "desk": [surfaces.drawer_desk],
    "cabinet": [storage.sideboard],
    "bookshelf": [storage.cube_shelf],
    "sofa": [seating.chesterfield],
    "bed": [seating.box_spring],
}


def draw_maker(name: str, rng: np.random.Generator, validation: bool = False) -> Maker:
    """Choose a maker of class ``name``; half of the validation draws take a variant training never sees."""
    unseen = VALIDATION_MAKERS.get(name, []) if validation else []
    choices = unseen if unseen and rng.random() < 0.5 else MAKERS[name]
    return choices[rng.integers(len(choices))]


def make(name: str, rng: np.random.Generator, validation: bool = False) -> list[Part]:
    """Make one piece of furniture of class ``name``."""
    return draw_maker(name, rng, validation)(rng)


__all__ = [
    "MAKERS",
    "VALIDATION_MAKERS",
    "Maker",
    "Part",
    "bath",
    "draw_maker",
    "make",
    "openings",
    "seating",
    "storage",
    "surfaces",
]
