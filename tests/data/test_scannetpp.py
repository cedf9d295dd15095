"""ScanNet++ in its raw layout: several labels a vertex, chunks to train on, whole meshes to evaluate on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pc3d.data import ScanDataset
from pc3d.data.chunks import cut_chunks
from pc3d.data.preparation import prepare
from pc3d.data.prepared import read_scene
from pc3d.data.scannet_groups import Group
from pc3d.data.scannetpp import ScanNetPP, objects_of_vertices
from pc3d.data.scans import counted_points
from pc3d.engine.evaluate import add_scan
from pc3d.errors import ConfigError, DataError, FileError, FormatError, Pc3dError
from pc3d.metrics import InstanceAP
from pc3d.structures import Instances
from pc3d.superpoints import segment_mesh
from pc3d.synth.raw import write_lines


def read_first(raw, split="val"):
    recipe = ScanNetPP.open(raw)
    return recipe, *recipe.read(next(source for source in recipe.sources() if source.split == split))


def test_the_smallest_object_of_a_vertex_comes_first_and_the_others_are_kept(scannetpp_raw, room):
    recipe, cloud, notes = read_first(scannetpp_raw)
    box, table, chair = (recipe.classes.index(name) for name in ("box", "table", "chair"))
    assert notes == []
    desk = room.instances == 0
    on_top = desk & (cloud.labels == box)
    assert set(cloud.labels[desk]) == {box, table}  # the map makes a table of "writing desk"
    assert on_top.sum() == 18
    assert set(cloud.attributes["more_labels"][on_top, 0]) == {table}
    assert set(cloud.attributes["more_instances"][on_top, 0]) == {0}
    assert set(cloud.attributes["more_labels"][:, 1]) == {-1}
    assert set(cloud.labels[room.instances == 1]) == {chair}
    assert np.array_equal(cloud.xyz, room.xyz)


def test_of_overlapping_objects_the_smallest_wins_and_three_are_kept_in_the_order_of_the_file():
    segments = np.array([5, 5, 5, 7, 7, 9])
    groups = [Group("", np.array(ids)) for ids in ([5, 7, 9], [5, 7], [5], [5])]
    objects, notes = objects_of_vertices(segments, groups, where="here")
    assert objects.tolist() == [[2, 1, 0]] * 3 + [[1, 0, -1]] * 2 + [[0, -1, -1]]  # the fourth came too late
    assert notes == []


def test_stuff_dropped_and_unknown_classes_are_no_instances(scannetpp_raw, room):
    path = scannetpp_raw / "data/b000000000/scans/segments_anno.json"
    content = json.loads(path.read_text())
    for group, label in zip(content["segGroups"], ("window frame", "bathtub", "spaceship")):
        group["label"] = label  # a class but no instance class; mapped to None; in no list
    content["segGroups"] = content["segGroups"][:3]
    path.write_text(json.dumps(content))
    recipe, cloud, notes = read_first(scannetpp_raw)
    assert set(cloud.labels) == set(cloud.instances) == {-1}
    assert notes == ["labels that the label map does not know: spaceship"]
    assert len(recipe.classes) == 84
    assert len(recipe.semantic) == 100
    for group in content["segGroups"][:2]:  # two of three: the label map must be another release's
        group["label"] = "spaceship"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"segments_anno\.json: the label map does not know .* spaceship \(3 of 3 objects\)"):
        read_first(scannetpp_raw)


def test_the_lists_of_the_download_count_before_ours(scannetpp_raw):
    metadata = scannetpp_raw / "metadata/semantic_benchmark"
    (metadata / "top100_instance.txt").write_text("chair\ntable\n")
    assert ScanNetPP.open(scannetpp_raw).classes == ("table", "chair")  # in the order of top100.txt
    (metadata / "top100.txt").unlink()
    assert len(ScanNetPP.open(scannetpp_raw).classes) == 84
    (metadata / "map_benchmark.csv").unlink()
    with pytest.raises(FileError, match=r"map_benchmark\.csv"):
        ScanNetPP.open(scannetpp_raw)


def test_training_scenes_become_chunks_and_others_stay_whole(scannetpp_raw, room, tmp_path, monkeypatch):
    monkeypatch.setattr("pc3d.data.scannetpp.CHUNK", 2.0)
    monkeypatch.setattr("pc3d.data.scannetpp.STRIDE", 1.0)
    monkeypatch.setattr("pc3d.data.scannetpp.MIN_POINTS", 10)
    report = prepare(ScanNetPP.open(scannetpp_raw), tmp_path / "out")
    assert (report.made, report.faults) == (3, {})
    chunks = ScanDataset(tmp_path / "out", "train")
    assert [path.name for path in chunks.paths] == [f"a000000000_{i}" for i in range(4)]  # 3 m x 3 m: 2 x 2 squares of 2 m
    for chunk in (chunks[i] for i in range(4)):
        assert np.ptp(chunk.xyz[:, :2], axis=0).max() <= 2
        assert set(np.unique(chunk.superpoints)) == set(range(chunk.superpoints.max() + 1))
    whole = ScanDataset(tmp_path / "out", "val")[0]
    assert np.array_equal(whole.xyz, room.xyz)
    assert np.array_equal(whole.superpoints, segment_mesh(room.xyz, room.faces, k_threshold=0.2, min_size=100, exact=True))
    assert "more_labels" in whole.attributes
    assert read_scene(tmp_path / "out/test/c000000000").labels is None
    assert prepare(ScanNetPP.open(scannetpp_raw), tmp_path / "out").kept == 3
    assert prepare(ScanNetPP.open(scannetpp_raw, unit="scene"), tmp_path / "out").made == 3
    assert [path.name for path in ScanDataset(tmp_path / "out", "train").paths] == ["a000000000"]  # no chunk stays behind


def test_chunks_cover_every_point_and_have_one_point_a_cell():
    rng = np.random.default_rng(0)
    xyz = (rng.random((5000, 3)) * [14, 7, 3]).astype(np.float32)
    xyz = np.concatenate([xyz, xyz[:100]])
    chunks = cut_chunks(xyz, size=6, stride=3, grid=0.001, min_points=1)
    assert len(chunks) == 4 * 2
    assert set(np.concatenate(chunks)) == set(range(5000))
    assert [len(cut_chunks(xyz[:, [1, 0, 2]], size=6, stride=3, grid=0.001, min_points=1))] == [8]
    small = cut_chunks(xyz[:50] * np.float32(0.1), size=6, stride=3, grid=0.001, min_points=10_000)
    assert [len(chunk) for chunk in small] == [50]  # too few, but the fullest stays


def test_segments_of_another_mesh_and_broken_files_are_refused(scannetpp_raw):
    scans = scannetpp_raw / "data/b000000000/scans"
    content = json.loads((scans / "segments.json").read_text())
    (scans / "segments.json").write_text(json.dumps({"segIndices": [i + 10_000 for i in content["segIndices"]]}))
    with pytest.raises(DataError, match="segments that the mesh does not have"):
        read_first(scannetpp_raw)
    (scans / "segments.json").write_text(json.dumps({"segIndices": content["segIndices"][:-1]}))
    with pytest.raises(DataError, match=r"segments\.json: the file does not fit the mesh"):
        read_first(scannetpp_raw)
    (scans / "segments_anno.json").write_text("{")
    (scans / "segments.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=r"segments_anno\.json"):
        read_first(scannetpp_raw)


def test_a_half_copied_download_is_reported_scene_by_scene(scannetpp_raw, tmp_path):
    (scannetpp_raw / "data/a000000000/scans/segments_anno.json").unlink()
    report = prepare(ScanNetPP.open(scannetpp_raw), tmp_path / "out")
    assert report.made == 2
    assert "segments_anno.json" in report.faults["train/a000000000"]
    with pytest.raises(FileError, match="split lists"):
        ScanNetPP.open(tmp_path)
    with pytest.raises(ConfigError, match="train, val, test"):
        ScanNetPP.open(scannetpp_raw, ["validation"])


def test_vertices_that_the_benchmark_ignores_are_kept_and_marked(scannetpp_raw, room, tmp_path):
    path = scannetpp_raw / "data/b000000000/scans/mesh_aligned_0.05_mask.txt"
    path.write_text("3\n0\n3\n")
    prepare(ScanNetPP.open(scannetpp_raw), tmp_path / "out")
    cloud = ScanDataset(tmp_path / "out", "val")[0]
    assert len(cloud) == len(room)
    assert np.flatnonzero(cloud.attributes["ignored"]).tolist() == [0, 3]
    assert np.flatnonzero(~counted_points(cloud)).tolist() == [0, 3]
    path.write_text("")  # as for most scenes
    assert prepare(ScanNetPP.open(scannetpp_raw), tmp_path / "out").made == 1
    cloud = ScanDataset(tmp_path / "out", "val")[0]
    assert "ignored" not in cloud.attributes
    assert counted_points(cloud).all()
    path.unlink()
    assert read_first(scannetpp_raw)[2] == ["there is no mesh_aligned_0.05_mask.txt: evaluation counts every vertex"]


@pytest.mark.parametrize(("text", "words"), [("0\n252\n", "txt:2: the mesh has no such vertex; got 252; expected below 252"),
                                             ("-1\n", "no such vertex"), ("one\n", "no list of whole numbers")])
def test_a_list_of_ignored_vertices_that_does_not_fit_is_refused(scannetpp_raw, text, words):
    (scannetpp_raw / "data/b000000000/scans/mesh_aligned_0.05_mask.txt").write_text(text)
    with pytest.raises(Pc3dError, match=words):
        read_first(scannetpp_raw)


def test_a_network_is_not_scored_on_ignored_vertices(scannetpp_raw, room):
    _, cloud, _ = read_first(scannetpp_raw)
    recipe = ScanNetPP.open(scannetpp_raw)
    chair = cloud.labels == recipe.classes.index("chair")
    chair &= cloud.instances == cloud.instances[chair].min()
    half = chair & (np.cumsum(chair) <= 18)
    found = Instances.from_masks(half[None], [recipe.classes.index("chair")], [1.0], recipe.classes)

    def ap(ignored):
        metric = InstanceAP(recipe.classes, min_points=1)
        only = cloud.replace(labels=np.where(chair, cloud.labels, -1), attributes={"ignored": ignored})
        add_scan(metric, only, found)
        return metric.result().ap

    assert ap(np.zeros(len(cloud), bool)) == 0  # IoU is a half
    assert ap(chair & ~half) == 1


def test_the_release_is_known_by_its_list_and_scenes_without_a_list_are_told_of(scannetpp_raw, tmp_path):
    assert ScanNetPP.open(scannetpp_raw).parameters["release"] == "unknown"
    for count, release in ((360, "v1"), (856, "v2")):
        write_lines(scannetpp_raw / "splits/nvs_sem_train.txt", [f"{i:010x}" for i in range(count)])
        assert ScanNetPP.open(scannetpp_raw).parameters["release"] == release
    report = prepare(ScanNetPP.open(scannetpp_raw, ["val"]), tmp_path / "out")
    assert len(report.remarks) == 1  # the training scene is in no list any more
    assert "1 scenes are in no list and were passed over (a000000000)" in report.remarks[0]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["parameters"]["release"], manifest["remarks"]) == ("v2", report.remarks)
