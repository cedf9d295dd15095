"""The figures of ``pc3d synth --stats`` are right on scans whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pc3d import io
from pc3d.structures import PointCloud
from pc3d.synth.statistics import measure_set, surface_area, voxel_neighbours


def plane(step: float = 0.02, side: int = 50) -> PointCloud:
    """A flat mesh with a vertex in the middle of every voxel of ``step`` metres; its left half is one chair (class 1)."""
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(side), np.arange(side), indexing="ij"))
    corner = (x * side + y).reshape(side, side)
    quads = np.stack([corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]], axis=-1).reshape(-1, 4)
    label = np.where(x < side // 2, 1, -1)
    return PointCloud(xyz=(np.stack([x + 0.5, y + 0.5, 0 * x], axis=1) * step).astype(np.float32),
                      faces=np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]),
                      normals=np.tile([0, 0, 1.0], (len(x), 1)),
                      labels=label, instances=np.where(label > 0, 0, -1), superpoints=(y >= side // 2).astype(np.int64))


def test_a_plane_has_the_area_and_the_neighbours_it_should():
    scan = plane()
    assert surface_area(scan) == pytest.approx((49 * 0.02) ** 2, rel=1e-5)
    inside, edge, corner = 48 * 48 * 8, 4 * 48 * 5, 4 * 3
    assert voxel_neighbours(scan.xyz, 0.02) == (2500, pytest.approx((inside + edge + corner) / 2500))
    assert voxel_neighbours(scan.xyz, 0.04)[0] == 625


def test_a_full_block_has_26_neighbours_and_rows_do_not_wrap_around():
    block = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3).astype(np.float32) + 0.5
    pairs = sum(np.abs(a - b).max() == 1 for a in block for b in block)
    assert voxel_neighbours(block, 1.0) == (27, pairs / 27)
    ends = np.array([[0.5, 0.5, 0.5], [0.5, 1.5, 2.5], [2.5, 2.5, 2.5]], np.float32)
    assert voxel_neighbours(ends, 1.0) == (3, 0.0)


def test_objects_are_counted_by_class_over_all_scans():
    empty = plane().replace(labels=np.full(2500, -1), instances=np.full(2500, -1))
    found = measure_set([plane(), empty], ("table", "chair"))
    rows = {name: values for name, *values in found.rows()}
    assert rows["vertices of no object (%)"] == [75.0, 50.0, 100.0]
    assert rows["objects"] == [0.5, 0.0, 1.0]
    assert rows["superpoints"] == [2, 2, 2]
    assert found.class_rows() == [("table", 0, 0.0, 0, 0), ("chair", 1, 0.5, 1, 1250)]


def test_the_verb_prints_a_table_or_json_and_makes_nothing(tmp_path, capsys):
    from pc3d.cli.synth import synth

    (tmp_path / "val").mkdir()
    (tmp_path / "classes.json").write_text(json.dumps(["table", "chair"]))
    io.write(plane(), tmp_path / "val" / "a.ply")
    assert synth(tmp_path, split="val", stats=True) == [tmp_path / "val" / "a.ply"]
    assert "vertices per m²" in capsys.readouterr().out
    synth(tmp_path, split="val", stats=True, as_json=True)
    record = json.loads(capsys.readouterr().out)
    assert record["classes"]["chair"] == {"objects": 1, "per_scan": 1.0, "scans": 1, "median_vertices": 1250}
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.ply", "classes.json"]
