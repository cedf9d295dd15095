"""Views carry the truth of their pixels; noise breaks masks as its shares say, and zero noise breaks nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pc3d.synth import MaskNoise, ScannerConfig, make_room, noisy_masks, scan_room, scan_views

CLEAN = MaskNoise.none()
CLASSES = ("a", "b", "c", "d")
INSTANCES = np.full((60, 80), -1)
for _i in range(24):  # touching tiles, 10 x 10
    INSTANCES[10 * (_i // 8):10 * (_i // 8) + 10, 10 * (_i % 8):10 * (_i % 8) + 10] = _i + 5
LABELS = np.where(INSTANCES >= 0, INSTANCES % 4, -1)


def masks(noise, seed=0):
    return noisy_masks(INSTANCES, LABELS, CLASSES, noise, np.random.default_rng(seed))


def test_without_noise_the_masks_are_the_truth():
    found = masks(CLEAN)
    assert np.array_equal(found.ids[0], np.where(INSTANCES >= 0, INSTANCES - 4, 0))
    assert found.labels.tolist() == [(i + 5) % 4 for i in range(24)]
    assert (found.scores == found.scores[0]).all()


def test_every_fault_comes_as_often_as_its_share_says():
    seeds = range(20)
    counts = {name: np.mean([len(masks(replace(CLEAN, **{name: 0.25}), seed)) for seed in seeds])
              for name in ("split", "merge", "drop", "invent")}
    assert counts["split"] == pytest.approx(24 * 1.25, rel=0.1)
    assert 24 * 0.7 < counts["merge"] < 24 * 0.85
    assert counts["drop"] == pytest.approx(24 * 0.75, rel=0.1)
    assert 25 < counts["invent"] <= 24 * 1.3
    changed = np.mean([(masks(replace(CLEAN, flicker=0.4), seed).labels != masks(CLEAN).labels).mean() for seed in seeds])
    assert changed == pytest.approx(0.4 * 0.75, abs=0.06)     # one in four falls on the true class
    moved = masks(replace(CLEAN, shift=0.02))
    agree = (moved.ids[0] == masks(CLEAN).ids[0]).mean()
    assert 0.6 < agree < 0.97


def test_scores_fall_with_faults_on_average():
    found = masks(replace(CLEAN, invent=1.0, drop=0.01))
    assert found.scores[:20].mean() > found.scores[25:].mean() + 0.15


@pytest.mark.usefixtures("open3d")
def test_views_show_the_instances_of_the_mesh():
    config = ScannerConfig(width=96, height=72, stations=3, views=8, voxel_size=0.06, min_instance_points=20,
                           max_label_distance=0.08)
    rng = np.random.default_rng(7)
    mesh, views = scan_views(make_room(rng, kind="bedroom"), rng, config)
    rng = np.random.default_rng(7)
    again = scan_room(make_room(rng, kind="bedroom"), rng, config)
    assert np.array_equal(mesh.xyz, again.xyz)
    assert np.array_equal(mesh.instances, again.instances)
    hits = total = 0
    for view in views:
        frame = view.frame
        v, u = np.nonzero((frame.depth > 0) & (view.instances >= 0))
        points = frame.camera.rays(np.stack([u, v], axis=1)) * frame.depth[v, u][:, None]
        world = points @ frame.T_world_camera[:3, :3].T + frame.T_world_camera[:3, 3]
        distance = np.linalg.norm(mesh.xyz[:, None] - world[None, ::50], axis=2)
        near, row = distance.min(axis=0) < 0.06, distance.argmin(axis=0)
        hits += (mesh.instances[row] == view.instances[v, u][::50])[near].sum()
        total += near.sum()
        assert set(np.unique(view.instances)) <= set(range(-1, mesh.instances.max() + 1))
        assert ((view.labels >= 0) == (view.instances >= 0)).all()
    assert total > 100
    assert hits / total > 0.85
