"""Furniture: a maker draws size, proportions, style and colours from ``rng`` and returns parts.

Local frame: origin on the floor in the middle of the footprint, z up, the front looks to -y and the back to +y.
A ``Part`` with a class name is one instance; a part without (name "") is clutter that nobody labels.
``MAKERS`` lists what every split draws from, ``VALIDATION_MAKERS`` what only validation rooms may show besides. A ``Stock``
chooses among them and, where they are installed, real models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pc3d.synth.furniture import bath, openings, seating, storage, surfaces, things
from pc3d.synth.furniture.parts import Part, recolored
from pc3d.synth.models import ModelLibrary

Maker = Callable[[np.random.Generator], list[Part]]

MAKERS: dict[str, list[Maker]] = {
    "cabinet": [storage.door_cabinet, storage.dresser, storage.wardrobe, storage.sliding_wardrobe, storage.filing_cabinet],
    "bed": [seating.bed],
    "chair": [seating.four_leg_chair, seating.swivel_chair, seating.cantilever_chair, seating.tub_chair, seating.armchair],
    "sofa": [seating.sofa, seating.corner_sofa],
    "table": [surfaces.leg_table, surfaces.slab_table, surfaces.round_table, surfaces.coffee_table],
    "desk": [surfaces.desk, surfaces.office_desk],
    "bookshelf": [storage.bookshelf, storage.open_rack],
    "counter": [surfaces.counter, surfaces.island],
    "refrigerator": [storage.refrigerator, storage.side_by_side],
    "toilet": [bath.toilet, bath.wall_toilet],
    "sink": [bath.wash_basin, bath.wall_basin, bath.vanity],
    "bathtub": [bath.bathtub, bath.tub_with_curtain],
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


#: Share of pieces that are real models, of the classes that have any.
MODEL_SHARE = 0.6


@dataclass(frozen=True)
class Stock:
    """What a room is furnished from; ``validation`` also draws what training rooms never show."""

    validation: bool = False
    models: ModelLibrary | None = None

    def make(self, name: str, rng: np.random.Generator) -> list[Part]:
        """One piece of furniture of class ``name``: a real model or a parametric one."""
        maker = self.draw_model(name, rng) or self.draw_maker(name, rng)
        return maker(rng)

    def draw_maker(self, name: str, rng: np.random.Generator) -> Maker:
        """Choose a maker of class ``name``; half of the validation draws take a variant training never sees."""
        unseen = VALIDATION_MAKERS.get(name, []) if self.validation else []
        choices = unseen if unseen and rng.random() < 0.5 else MAKERS[name]
        return choices[rng.integers(len(choices))]

    def draw_model(self, name: str, rng: np.random.Generator) -> Maker | None:
        """The maker of a real model of class ``name``; None where there is none, or by chance. Draws nothing without models."""
        choices = self.models.choices(name, validation=self.validation) if self.models else []
        if self.models is None or not choices or rng.random() > MODEL_SHARE:
            return None
        mesh = self.models.mesh(choices[rng.integers(len(choices))])
        return partial(_vary, Part(name, mesh)) if mesh else None


def _vary(part: Part, rng: np.random.Generator) -> list[Part]:
    """A real model a little stretched and, every other time, in another finish."""
    mesh = part.mesh.scaled(*(rng.uniform(0.92, 1.08) * rng.uniform(0.96, 1.04, 3)))
    return [Part(part.name, replace(mesh, colors=recolored(mesh.colors, rng)) if rng.random() < 0.5 else mesh)]


__all__ = [
    "MAKERS",
    "VALIDATION_MAKERS",
    "Maker",
    "Part",
    "Stock",
    "bath",
    "openings",
    "seating",
    "storage",
    "surfaces",
    "things",
]
