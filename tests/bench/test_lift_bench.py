"""What ``pc3d bench lift`` compares is the same on both sides, and is what its name says."""

from __future__ import annotations

import numpy as np
import pytest

from pc3d.bench import lift
from pc3d.errors import DataError


@pytest.fixture(scope="module")
def data():
    return lift.make_data(num_frames=4)


def test_both_sides_count_the_same(data):
    ours = lift.lifted(data).votes()
    lift._same_votes(ours, lift.peer_votes(data, ours.pieces))
    assert 0.02 < ours.visible.sum() / (len(data.cloud) * ours.num_frames) < 0.3
    assert ours.num_masks >= 20 * ours.num_frames
    assert ours.counts.sum() > 0.9 * ours.visible.sum()


def test_one_count_too_many_is_seen(data):
    ours = lift.lifted(data).votes()
    for name in ("counts", "piece_counts"):
        theirs = lift.peer_votes(data, ours.pieces)
        getattr(theirs, name).data[5] += 1
        with pytest.raises(DataError, match="the two sides count differently"):
            lift._same_votes(ours, theirs)


def test_depth_is_that_of_the_scene(data):
    frame, _, depth = data.frames[0]
    v, u = np.nonzero(depth[::40, ::40])
    points = lift.CAMERA.rays(np.stack([40 * u, 40 * v], 1)) * depth[40 * v, 40 * u][:, None]
    world = points @ frame.T_world_camera[:3, :3].T + frame.T_world_camera[:3, 3]
    distance = np.linalg.norm(data.cloud.xyz[None, ::7] - world[:, None], axis=2).min(axis=1)
    assert np.quantile(distance, 0.9) < 0.08


def test_both_sides_find_the_same_instances(data):
    lifter = lift.lifted(data)
    ours = lifter.instances("consensus")
    assert len(ours) > 3
    lift._same_instances(ours, lift._peer_instances(data, lifter))
    with pytest.raises(DataError, match="the two sides find other instances"):
        lift._same_instances(ours, lifter.instances("sequential"))
