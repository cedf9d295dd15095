"""Furniture stands on the floor, has sensible size, and knows its class."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.synth import SCANNET_CLASSES
from pc3d.synth.furniture import MAKERS, VALIDATION_MAKERS, Stock
from pc3d.synth.furniture.parts import bounds
from pc3d.synth.primitives import box, lathe, merge, panel, rounded_box

ALL_MAKERS = [
    (name, maker) for registry in (MAKERS, VALIDATION_MAKERS) for name, makers in registry.items() for maker in makers
]


@pytest.mark.parametrize(("name", "maker"), ALL_MAKERS, ids=[maker.__name__ for _, maker in ALL_MAKERS])
def test_furniture_stands_on_the_floor_and_holds_its_class(name, maker):
    for seed in range(5):
        parts = maker(np.random.default_rng(seed))
        assert name in {part.name for part in parts}
        assert all(part.name in {"", *SCANNET_CLASSES} for part in parts)
        low, high = bounds(parts)
        assert -0.012 < low[2] < 0.025  # a slanted bar dips its corner
        assert (high - low < [3.5, 2.5, 2.4]).all()
        assert (high - low > 0.15).all()


def test_same_rng_makes_the_same_furniture():
    first, second = (Stock(validation=True).make("chair", np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first[0].mesh.vertices, second[0].mesh.vertices)


def test_training_never_draws_validation_furniture():
    unseen = {maker for makers in VALIDATION_MAKERS.values() for maker in makers}
    assert unseen.isdisjoint({maker for makers in MAKERS.values() for maker in makers})


def _closed(mesh) -> bool:
    """Every undirected edge, by position, belongs to two triangles."""
    index = np.unique(mesh.vertices.round(5), axis=0, return_inverse=True)[1].reshape(-1)
    faces = index[mesh.faces]
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    edges = edges[edges[:, 0] != edges[:, 1]]
    return bool((np.unique(edges, axis=0, return_counts=True)[1] % 2 == 0).all())


def test_boxes_are_closed_and_have_the_asked_size():
    for mesh in (box((0.4, 0.6, 0.8), (9, 9, 9), (1, 2, 3)), rounded_box((0.4, 0.6, 0.8), (9, 9, 9), (1, 2, 3))):
        np.testing.assert_allclose(mesh.bounds, [[0.8, 1.7, 3.0], [1.2, 2.3, 3.8]], atol=1e-5)
        assert _closed(mesh)
    assert _closed(lathe([(0, 0), (1, 0), (1, 1), (0, 1)], (9, 9, 9)))


def test_panel_leaves_holes_open():
    mesh = panel(4.0, 2.0, [(1.0, 2.0, 0.5, 1.5)], (9, 9, 9))
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 == pytest.approx(7.0)


def test_merge_keeps_every_triangle_on_its_vertices():
    first, second = box((1, 1, 1), (1, 2, 3)), box((1, 1, 1), (4, 5, 6), (5, 0, 0))
    both = merge(first, second)
    np.testing.assert_array_equal(both.vertices[both.faces[12:]], second.vertices[second.faces])
    assert both.colors[0].tolist() == [1, 2, 3]
    assert both.colors[-1].tolist() == [4, 5, 6]
