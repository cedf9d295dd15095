"""A training sample follows from seed, epoch and index alone."""

import json

import numpy as np
import pytest

from pc3d.config import ExperimentConfig
from pc3d.data import ScanDataset, TrainingSamples
from pc3d.data.prepared import write_scene
from pc3d.errors import FormatError
from pc3d.io import write
from pc3d.structures import PointCloud


@pytest.fixture
def scans(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "classes.json").write_text(json.dumps(["box"]))
    for name in "ab":
        cloud = PointCloud(xyz=rng.random((300, 3)), rgb=rng.integers(0, 256, (300, 3)), normals=np.tile([0, 0, 1.0], (300, 1)),
                           superpoints=np.arange(300) // 30, labels=np.zeros(300), instances=np.arange(300) // 60)
        write_scene(cloud, tmp_path / "train" / name, {})
    return ScanDataset(tmp_path, "train")


def features(samples, epoch, index):
    return samples[epoch, index].features


def test_a_sample_does_not_depend_on_what_was_asked_before(scans):
    used, fresh = TrainingSamples(scans, ExperimentConfig()), TrainingSamples(scans, ExperimentConfig())
    for key in ((1, 0), (2, 1), (1, 1), (1, 0)):
        features(used, *key)
    assert np.array_equal(features(used, 2, 1), features(fresh, 2, 1))


def test_epoch_scan_and_seed_each_change_it(scans):
    config = ExperimentConfig()
    samples, reseeded = TrainingSamples(scans, config), TrainingSamples(scans, config.with_overrides(["train.seed=7"]))
    base = features(samples, 1, 0)
    others = (features(samples, 2, 0), features(samples, 1, 1), features(reseeded, 1, 0))
    assert not any(np.array_equal(base, other) for other in others)


def test_a_scan_without_truth_is_read_only_where_none_is_asked_for(scans):
    cloud = scans[0].replace(labels=None, instances=None)
    write_scene(cloud, scans.root / "test" / "c", {})
    assert ScanDataset(scans.root, "test", labelled=False)[0].labels is None
    assert ScanDataset(scans.root, "test", labelled=False).scene(0) == "c"
    with pytest.raises(FormatError, match="needs vertex columns"):
        ScanDataset(scans.root, "test")[0]


def test_scans_are_found_whatever_the_case_of_their_suffix(scans):
    cloud = scans[0].replace(superpoints=None)
    for name in ("c.d.ply", "E.PLY"):
        write(cloud, scans.root / "train" / name)
    both = ScanDataset(scans.root, "train")
    assert [both.scene(index) for index in range(len(both))] == ["E", "a", "b", "c.d"]
    assert len(both[0]) == len(both[3]) == len(cloud)


@pytest.mark.parametrize("names", [["box", "box"], "box", ["box", 3], []])
def test_a_class_list_has_different_names(scans, names):
    (scans.root / "classes.json").write_text(json.dumps(names))
    with pytest.raises(FormatError, match=r"classes\.json: the class list must be a json list of different names"):
        ScanDataset(scans.root, "train")


def test_a_scan_is_seen_among_others_where_neighbours_are_asked_for(scans):
    """Scans of 1 m, four of them 2.2 m: windows of 3 m hold all, those of 1.5 m parts."""
    def beside(window):
        config = ExperimentConfig().with_overrides(["augment.neighbours=1", f"augment.window=[{window}, {window}]"])
        return [TrainingSamples(scans, config)[epoch, 0] for epoch in range(4)]

    assert [(len(sample.xyz), len(sample.targets.labels)) for sample in beside(3)] == [(1200, 20)] * 4
    parts = beside(1.5)
    assert all(0 < len(sample.xyz) < 1200 for sample in parts)
    assert all(np.array_equal(sample.features, again.features) for sample, again in zip(parts, beside(1.5)))


def test_samples_without_neighbours_are_what_they_were(scans):
    default = ExperimentConfig()
    never = default.with_overrides(["augment.window=[1, 2]"])
    assert np.array_equal(TrainingSamples(scans, never)[1, 0].features, TrainingSamples(scans, default)[1, 0].features)


def test_the_chance_of_neighbours_is_the_share_of_samples_that_have_them(scans):
    samples = TrainingSamples(scans, ExperimentConfig().with_overrides(["augment.neighbours=0.3", "augment.window=[3, 3]"]))
    several = [len(samples[epoch, 0].xyz) > 300 for epoch in range(100)]
    assert 15 <= sum(several) <= 45
