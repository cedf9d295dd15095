"""ClassAgnosticAP: each protocol against the way its script encodes truth, and a slow reading of ScanNet's matching."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pc3d.errors import ConfigError, DataError
from pc3d.metrics import PROTOCOLS, ClassAgnosticAP, InstanceAP, merge_folds
from pc3d.structures import Instances

CLASSES = ("chair", "wall", "sofa", "ceiling")
THRESHOLDS = [0.5 + 0.05 * step for step in range(9)] + [0.25]
MIN_POINTS = 12


# ---- truth as the scripts encode it: a code per point, and which codes are true instances ------------------------------

def encode_by_class(labels, ids, stuff):
    """SAI3D, SA3DIP, Open3DIS: label * 1000 + object, valid when the label is in the list."""
    valid = [index for index, name in enumerate(CLASSES) if name not in stuff]
    codes = [(label + 1) * 1000 + id_ + 1 if 0 <= label < len(CLASSES) and id_ >= 0 else 0 for label, id_ in zip(labels, ids)]
    return codes, sorted({code for code in codes if code // 1000 - 1 in valid})


def encode_scored(labels, ids, stuff):
    """ESAM: every point of a thing gets class 3, then 1000 * 3 + instance; the rest keeps no code of a class."""
    thing = [0 <= label < len(CLASSES) and CLASSES[label] not in stuff for label in labels]
    codes = [1000 * 3 + id_ if is_thing and id_ >= 0 else 0 for is_thing, id_ in zip(thing, ids)]
    return codes, sorted({code for code in codes if code // 1000 == 3})


def encode_annotated(labels, ids, stuff):
    """MaskClustering: no annotation is 1, an object label * 1000 + id + 2; then code % 1000 + first class * 1000."""
    del stuff
    codes = [(max(label, -1) + 1) * 1000 + id_ + 2 if id_ >= 0 else 1 for label, id_ in zip(labels, ids)]
    codes = [code % 1000 + 3 * 1000 for code in codes]
    return codes, sorted(set(codes))


ENCODERS = {"scannetv2-18": encode_by_class, "scannetv2ins-19": encode_by_class, "scannet200-198": encode_by_class,
            "scannet200-198-scored": encode_scored, "annotated": encode_annotated, "objects": encode_by_class}


def slow_scan(protocol, labels, ids, masks, scores):
    codes, valid = ENCODERS[protocol.name](labels.tolist(), ids.tolist(), protocol.stuff)
    codes = np.array(codes)
    truths = [{"label": 0, "mask": codes == code, "size": int((codes == code).sum())} for code in valid]
    predictions = []
    for mask, own_score in zip(masks, scores):
        if mask.sum() < MIN_POINTS:
            continue
        predictions.append({"label": 0, "score": float(own_score) if protocol.own_scores else 1.0, "size": int(mask.sum()),
                            "mask": mask, "void": int((mask & ~np.isin(codes, valid)).sum()), "visited": False})
    return truths, predictions


@pytest.mark.parametrize("name", PROTOCOLS)
def test_agrees_with_the_script_of_the_protocol(random_scan, slow_class, name):
    """300 scenes a protocol, in 60 sets."""
    rng = np.random.default_rng(len(name))
    protocol = replace(PROTOCOLS[name], num_classes=None, min_points=MIN_POINTS)
    found = []
    for _ in range(60):
        metric, scans = ClassAgnosticAP(CLASSES, protocol), []
        for _ in range(5):
            segment, labels, ids, masks, predicted, scores = random_scan(rng, 120, 26, int(rng.integers(3, 11)))
            instances = Instances.from_masks(masks, predicted, scores, ("object",) * 4, point_to_superpoint=segment)
            metric.add(labels, ids, instances)
            scans.append(slow_scan(protocol, labels, ids, masks[:, segment], scores))
        row = [slow_class(scans, 0, threshold, MIN_POINTS) for threshold in THRESHOLDS]
        result = metric.result()
        values = (result.ap, result.ap50, result.ap25)
        np.testing.assert_allclose(values, (np.mean(row[:9]), row[0], row[9]), rtol=0, atol=1e-12)
        found.append(result.ap25)
    assert 0 < np.nanmean(found) < 1


# ---- single promises ---------------------------------------------------------------------------------------------------

def predict(num_points, *rows):
    """Instances from (start, stop, score)."""
    masks = np.zeros((len(rows), num_points), dtype=bool)
    for row, (start, stop, _) in enumerate(rows):
        masks[row, start:stop] = True
    return Instances.from_masks(masks, [0] * len(rows), [r[2] for r in rows], ("object",))


def score(protocol, labels, ids, instances):
    metric = ClassAgnosticAP(CLASSES, protocol)
    metric.add(np.asarray(labels), np.asarray(ids), instances)
    return metric.result()


def test_walls_are_void_in_one_protocol_and_objects_in_another():
    labels, ids = np.repeat([0, 1], 200), np.repeat([0, 1], 200)
    both, chair = predict(400, (0, 200, 0.9), (200, 400, 0.8)), predict(400, (0, 200, 0.9))
    assert (score("objects", labels, ids, both).ap, score("objects", labels, ids, chair).ap) == (1.0, 1.0)
    assert score("annotated", labels, ids, both).ap == 1.0
    assert score("annotated", labels, ids, chair).ap < 1.0


def test_without_void_the_unannotated_rest_is_one_object():
    labels, ids = np.repeat([0, -1], 200), np.repeat([0, -1], 200)
    assert score("annotated", labels, ids, predict(400, (0, 200, 0.9), (200, 400, 0.8))).ap == 1.0
    assert score("annotated", labels, ids, predict(400, (0, 200, 0.9))).ap < 1.0
    assert score("objects", labels, ids, predict(400, (0, 200, 0.9))).ap == 1.0


def test_scores_of_one_forget_which_prediction_was_sure():
    labels, ids = np.repeat([0, 2], 200), np.repeat([0, 1], [200, 200])
    instances = predict(400, (0, 200, 0.9), (200, 400, 0.8), (100, 300, 0.1))
    own = replace(PROTOCOLS["objects"], own_scores=True)
    ones = replace(PROTOCOLS["objects"], own_scores=False)
    assert score(own, labels, ids, instances).ap50 == 1.0
    assert score(ones, labels, ids, instances).ap50 < 1.0


def test_the_result_carries_the_name_of_its_protocol():
    result = score("objects", [0] * 200, [0] * 200, predict(200, (0, 200, 0.5)))
    assert result.to_dict() == {"protocol": "objects", "ap": 1.0, "ap50": 1.0, "ap25": 1.0}
    assert result.table().splitlines()[2].split() == ["objects", "100.0", "100.0", "100.0"]
    assert len({len(line) for line in result.table().splitlines()}) == 1


def test_a_protocol_of_other_classes_or_of_no_name_is_refused():
    with pytest.raises(ConfigError, match="got 3 classes; expected 18"):
        ClassAgnosticAP(CLASSES, "scannetv2-18")
    with pytest.raises(ConfigError, match="annotated"):
        ClassAgnosticAP(CLASSES, "coco")
    ClassAgnosticAP([f"class {index}" for index in range(18)] + ["wall", "floor"], "scannetv2-18")


def test_folds_merge_as_if_one_metric_had_seen_all_scans(random_scan):
    rng = np.random.default_rng(3)
    protocol = replace(PROTOCOLS["objects"], min_points=MIN_POINTS)
    makers = (lambda: ClassAgnosticAP(CLASSES, protocol), lambda: InstanceAP(CLASSES, min_points=MIN_POINTS))
    scans = [random_scan(rng, 160, 30, 8) for _ in range(4)]
    for make in makers:
        folds, together = [make(), make()], make()
        for index, (segment, labels, ids, masks, predicted, scores) in enumerate(scans):
            instances = Instances.from_masks(masks, predicted, scores, CLASSES, point_to_superpoint=segment)
            folds[index // 2].add(labels, ids, instances)
            together.add(labels, ids, instances)
        merged = merge_folds(folds)
        assert merged.num_scans == 4
        assert merged.result().to_dict() == together.result().to_dict()


def test_metrics_of_different_settings_are_not_merged():
    with pytest.raises(ConfigError, match="settings"):
        ClassAgnosticAP(CLASSES, "objects").update(ClassAgnosticAP(CLASSES, "annotated"))
    with pytest.raises(DataError, match="settings"):
        InstanceAP(CLASSES).update(InstanceAP(CLASSES, min_points=10))


def test_nothing_added_is_nan_and_truth_of_another_scan_is_refused():
    assert math.isnan(ClassAgnosticAP(CLASSES, "objects").result().ap)
    assert ClassAgnosticAP(CLASSES, "objects").result().to_dict()["ap"] is None
    with pytest.raises(DataError, match="same points"):
        score("objects", [0] * 5, [0] * 5, predict(6, (0, 3, 1.0)))
