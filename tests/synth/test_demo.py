"""The images that ship with the demo's room are of that room."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from pc3d import io
from pc3d.cli.demo import FRAMES, ROOM
from pc3d.synth.demo import read_demo_frames


def test_the_images_of_the_demo_fit_its_room() -> None:
    room = io.read(ROOM)
    frames, masks = read_demo_frames(ROOM.with_name(FRAMES))
    tree = cKDTree(room.world_xyz)
    assert room.instances is not None
    owners = []
    for frame in frames[::3]:
        v, u = (axis[::97] for axis in np.nonzero(frame.depth > 0))
        rays = frame.depth_camera.rays(np.stack([u, v], axis=1)) * frame.depth[v, u][:, None]
        distance, row = tree.query(rays @ frame.T_world_camera[:3, :3].T + frame.T_world_camera[:3, 3])
        assert np.median(distance) < 0.035      # the distance of its points
        owners.append(room.instances[row[(masks(frame).ids[0][v, u] > 0) & (distance < 0.07)]])
        assert frame.rgb.shape == (*frame.depth.shape, 3)
    assert np.mean(np.concatenate(owners) >= 0) > 0.7       # masks are of objects, but for those that were invented
