"""Rooms of every kind are furnished, labelled and free of collisions."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import ConfigError
from pc3d.synth import SCANNET_CLASSES, make_room
from pc3d.synth.dataset import KINDS
from pc3d.synth.furniture.parts import Part
from pc3d.synth.layout import Layout
from pc3d.synth.primitives import box
from pc3d.synth.rooms import KINDS as KINDS_OF_ROOMS
from pc3d.synth.rooms import WALL
from pc3d.synth.scanner import Caster


@pytest.mark.parametrize("kind", KINDS_OF_ROOMS)
def test_furniture_stays_in_the_room_and_apart(kind):
    for seed in range(2):
        room = make_room(np.random.default_rng(seed), kind=kind)
        assert (room.size >= [2.2, 1.7, 2.3]).all()
        assert (room.size <= [17.2, 6.2, 3.2]).all()
        rects = np.array(room.rects)
        assert len(rects) >= 2
        assert (rects[:, :2] >= 0).all()
        assert (rects[:, 2:4] <= room.size[:2]).all()
        for index, rect in enumerate(rects):
            others = rects[index + 1 :]
            apart = (rect[2:4] <= others[:, :2]).any(axis=1) | (others[:, 2:4] <= rect[:2]).any(axis=1)
            assert apart.all()


def test_every_instance_has_one_class_and_structure_has_none():
    room = make_room(np.random.default_rng(1))
    assert ((room.face_labels < 0) == (room.face_instances < 0)).all()
    for instance in range(room.face_instances.max() + 1):
        assert len(np.unique(room.face_labels[room.face_instances == instance])) == 1
    assert room.face_labels[0] == -1


def test_a_small_data_set_shows_all_classes():
    rooms = [make_room(np.random.default_rng(seed), kind=KINDS[seed % len(KINDS)]) for seed in range(20)]
    shown = np.unique(np.concatenate([room.face_labels for room in rooms]))
    assert [SCANNET_CLASSES[label] for label in shown if label >= 0] == list(SCANNET_CLASSES)


def test_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="bathroom"):
        make_room(np.random.default_rng(0), kind="cellar")


def test_a_suite_is_two_rooms_with_a_way_between_them(open3d):
    for seed in range(3):
        room = make_room(np.random.default_rng(seed), kind="suite")
        parting = [rect for rect in room.rects if abs(rect[2] - rect[0] - WALL) < 1e-6 and rect[4] == room.size[2]]
        starts = np.stack(np.broadcast_arrays(parting[0][0] - 0.05, np.arange(0.02, room.size[1], 0.02), 0.15), axis=1)
        rays = np.concatenate([starts, np.tile([1.0, 0, 0], (len(starts), 1))], axis=1).astype(np.float32)
        reach = Caster(room).scene.cast_rays(Caster(room).tensor(rays))["t_hit"].numpy()
        assert 0.8 < (reach > WALL + 0.1).sum() * 0.02 < 1.7  # metres of the wall that are open


def test_nothing_stands_or_hangs_where_a_room_has_no_wall_or_no_floor():
    layout = Layout(np.array([5.0, 4.0, 2.5]), np.random.default_rng(0))
    layout.block(0.0, 2.5, 2.0, 4.0)
    layout.leave_out(3)
    for _ in range(40):
        layout.place_at_wall([Part("chair", box((0.4, 0.4, 0.8), (9, 9, 9)))])
        layout.place_free([Part("table", box((0.5, 0.4, 0.7), (9, 9, 9)))])
    middles = np.array([part.mesh.bounds.mean(axis=0)[:2] for part in layout.parts])
    assert len(middles) > 20
    assert not ((middles[:, 0] < 2.0) & (middles[:, 1] > 2.5)).any()
    chairs = np.array([part.mesh.bounds for part in layout.parts if part.name == "chair"])
    near_a_wall = np.stack([chairs[:, 0, 0], chairs[:, 0, 1], 4.0 - chairs[:, 1, 1]], axis=1).min(axis=1)
    assert (near_a_wall < 0.1).all()
