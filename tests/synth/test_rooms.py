"""Rooms of every kind are furnished, labelled and free of collisions."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.errors import ConfigError
from pc3d.synth import SCANNET_CLASSES, make_room
from pc3d.synth.dataset import KINDS
from pc3d.synth.rooms import KINDS as KINDS_OF_ROOMS


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
