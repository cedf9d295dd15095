"""Clutter lies on furniture and hangs on walls, is never labelled, and leaves the furniture as it was."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.synth.clutter import PLACES, WALLS, add_clutter, level_triangles, lying_on
from pc3d.synth.furniture import MAKERS, things
from pc3d.synth.furniture.parts import Part, moved
from pc3d.synth.layout import Layout
from pc3d.synth.primitives import box, merge
from pc3d.synth.rooms import RECIPES

EVERYTHING = {thing for choices, _, _ in PLACES.values() for thing in choices} | set(things.ON_FLOORS)


@pytest.mark.parametrize("thing", sorted(EVERYTHING, key=lambda thing: thing.__name__), ids=lambda thing: thing.__name__)
def test_a_thing_stands_on_its_foot_and_is_small(thing):
    for seed in range(5):
        low, high = thing(np.random.default_rng(seed)).bounds
        assert -0.09 < low[2] < 0.055    # cushions and bags lean
        assert (high - low < 1.8).all()
        assert (low[:2] < 0.05).all()
        assert (high[:2] > -0.05).all()


def test_every_thing_that_lies_on_a_table_lies_over_it_and_on_its_top():
    table = Part("table", merge(box((1.6, 0.8, 0.04), (9, 9, 9), (2, 3, 0.7)), box((0.1, 0.1, 0.7), (9, 9, 9), (2, 3, 0))))
    found = lying_on(table, 2.0, np.random.default_rng(0))
    assert len(found) > 3
    for mesh in found:
        assert mesh.bounds[0, 2] == pytest.approx(0.74, abs=0.06)
        assert (np.abs(mesh.bounds.mean(axis=0)[:2] - [2, 3]) < [0.9, 0.5]).all()


def test_the_top_of_a_shelf_is_a_place_and_its_boards_are_not():
    shelf = MAKERS["bookshelf"][0](np.random.default_rng(0))[0].mesh
    triangles = level_triangles(shelf, 0.5, 2.2, top_only=True)
    assert triangles[:, :, 2].min() > shelf.bounds[1, 2] - 0.05


@pytest.mark.parametrize("kind", RECIPES)
def test_clutter_has_no_label_and_moves_no_furniture(kind):
    assert kind in WALLS
    layout = Layout(np.array([5.0, 4.0, 2.5]), np.random.default_rng(1))
    layout.parts += moved(MAKERS["desk"][0](np.random.default_rng(0)), 2.0, 2.0)
    before = list(layout.parts)
    add_clutter(layout, kind)
    assert layout.parts[: len(before)] == before
    assert len(layout.parts) > len(before)
    assert {part.name for part in layout.parts[len(before):]} == {""}
