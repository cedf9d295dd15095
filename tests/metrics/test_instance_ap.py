"""InstanceAP against a literal, slow reading of the protocol with point masks and Python lists."""

import math

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.metrics import InstanceAP
from pc3d.structures import Instances

CLASSES = ("bed", "chair", "sofa", "table")
THRESHOLDS = [0.5 + 0.05 * step for step in range(9)] + [0.25]


# ---- the slow reading ------------------------------------------------------------------------------------------------

def slow_scan(gt_labels, gt_ids, masks, labels, scores, min_points, num_classes):
    """List true instances and predictions of one scan, with every intersection counted on point masks."""
    code = np.array([label * 100000 + id_ + 1 if 0 <= label < num_classes and id_ >= 0 else 0
                     for label, id_ in zip(gt_labels.tolist(), gt_ids.tolist())])
    truths = [{"label": (c - 1) // 100000, "mask": code == c, "size": int((code == c).sum())}
              for c in sorted(set(code.tolist())) if c]
    predictions = []
    for mask, label, score in zip(masks, labels, scores):
        if mask.sum() < min_points or mask.sum() == 0:
            continue
        predictions.append({"label": int(label), "score": float(score), "size": int(mask.sum()), "mask": mask,
                            "void": int((mask & (code == 0)).sum()), "visited": False})
    return truths, predictions


def slow_result(slow_class, scans, min_points):
    table = [[slow_class(scans, label, t, min_points) for t in THRESHOLDS] for label in range(len(CLASSES))]
    known = [row for row in table if not math.isnan(row[0])]

    def mean(columns):
        return np.mean([[row[c] for c in columns] for row in known]) if known else math.nan

    return table, (mean(range(9)), mean([0]), mean([9]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("by_points", [False, True])
def test_agrees_with_the_literal_protocol(random_scan, slow_class, seed, by_points):
    """2,000 scenes in 400 sets, of one scene or of many."""
    rng, min_points = np.random.default_rng(seed), 8
    for _ in range(25):
        metric, scans = InstanceAP(CLASSES, min_points=min_points), []
        for _ in range(int(rng.integers(1, 10))):
            segment, labels, ids, masks, predicted, scores = random_scan(rng, 100, 24, int(rng.integers(2, 12)))
            if rng.random() < 0.05:
                masks[:] = False                                    # a scene where nothing was found
            if rng.random() < 0.05:
                labels[:] = -1                                      # a scene where nothing counts
            point_masks = masks[:, segment]
            instances = Instances.from_masks(point_masks, predicted, scores, CLASSES) if by_points else \
                Instances.from_masks(masks, predicted, scores, CLASSES, point_to_superpoint=segment)
            metric.add(labels, ids, instances)
            scans.append(slow_scan(labels, ids, point_masks, predicted, scores, min_points, len(CLASSES)))
        result = metric.result()
        table, means = slow_result(slow_class, scans, min_points)
        np.testing.assert_allclose((result.ap, result.ap50, result.ap25), means, rtol=0, atol=1e-12)
        for name, row in zip(CLASSES, table):
            np.testing.assert_allclose(result.per_class[name], (np.mean(row[:9]), row[0], row[9]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("by_points", [False, True])
def test_points_left_out_count_neither_in_truth_nor_in_predictions(random_scan, slow_class, by_points):
    """ScanNet++'s rule for its masked vertices: both lose them before anything is counted, sizes included."""
    rng, min_points = np.random.default_rng(3), 8
    for _ in range(40):
        segment, labels, ids, masks, predicted, scores = random_scan(rng, 100, 24, 8)
        rows = np.sort(rng.choice(100, size=int(rng.integers(0, 101)), replace=False))  # some points, none or all
        whole = masks[:, segment] if by_points else masks
        instances = Instances.from_masks(whole, predicted, scores, CLASSES, None if by_points else segment)
        metric = InstanceAP(CLASSES, min_points=min_points)
        metric.add(labels[rows], ids[rows], instances.on_points(rows))
        slow = slow_scan(labels[rows], ids[rows], masks[:, segment[rows]], predicted, scores, min_points, len(CLASSES))
        _, means = slow_result(slow_class, [slow], min_points)
        result = metric.result()
        np.testing.assert_allclose((result.ap, result.ap50, result.ap25), means, rtol=0, atol=1e-12)


# ---- single promises -------------------------------------------------------------------------------------------------

def scan_of(sizes, labels):
    """Truth from blocks of points: block i has sizes[i] points of class labels[i] and instance i."""
    return np.repeat(labels, sizes), np.repeat(np.arange(len(sizes)), sizes)


def predict(*rows, num_points):
    """Instances from (start, stop, label, score)."""
    masks = np.zeros((len(rows), num_points), dtype=bool)
    for row, (start, stop, _, _) in enumerate(rows):
        masks[row, start:stop] = True
    return Instances.from_masks(masks, [r[2] for r in rows], [r[3] for r in rows], CLASSES)


def score(labels, ids, instances, min_points=100):
    metric = InstanceAP(CLASSES, min_points=min_points)
    metric.add(labels, ids, instances)
    return metric.result()


def test_a_perfect_prediction_scores_one():
    labels, ids = scan_of([200, 300], [0, 1])
    result = score(labels, ids, predict((0, 200, 0, 0.9), (200, 500, 1, 0.4), num_points=500))
    assert (result.ap, result.ap50, result.ap25) == (1.0, 1.0, 1.0)


def test_iou_equal_to_the_threshold_is_no_match():
    labels, ids = scan_of([400], [0])
    assert score(labels, ids, predict((0, 200, 0, 1.0), num_points=400)).ap50 == 0.0
    assert score(labels, ids, predict((0, 201, 0, 1.0), num_points=400)).ap50 == 1.0


def test_a_duplicate_costs_the_lower_score():
    labels, ids = scan_of([200, 200], [0, 0])
    once = predict((0, 200, 0, 0.5), (200, 400, 0, 0.2), num_points=400)
    twice = predict((0, 200, 0, 0.5), (0, 200, 0, 0.4), (200, 400, 0, 0.2), num_points=400)
    assert score(labels, ids, once).ap50 == 1.0
    # recall 1 at precision 2/3, recall 1/2 at precision 1/2 and 1, each weighted by half its neighbours' recall gap
    assert score(labels, ids, twice).ap50 == pytest.approx(2 / 3 * 0.25 + 0.5 * 0.25 + 1.0 * 0.25 + 1.0 * 0.25)


def test_a_prediction_on_void_is_not_wrong():
    labels, ids = scan_of([200, 200], [0, -1])
    assert score(labels, ids, predict((0, 200, 0, 0.5), (200, 400, 0, 0.9), num_points=400)).ap == 1.0
    labels, ids = scan_of([200, 200], [0, 1])
    assert score(labels, ids, predict((0, 200, 0, 0.5), (200, 400, 0, 0.9), num_points=400)).per_class["bed"][0] < 1.0


def test_a_prediction_on_too_small_truth_is_not_wrong():
    labels, ids = scan_of([200, 90, 90], [0, 0, 0])
    assert score(labels, ids, predict((0, 200, 0, 0.5), (200, 380, 0, 0.9), num_points=380)).ap == 1.0


def test_predictions_below_min_points_are_dropped():
    labels, ids = scan_of([150, 99], [0, 1])
    assert score(labels, ids, predict((0, 150, 0, 0.1), (50, 149, 0, 0.9), num_points=249)).ap == 1.0


def test_class_without_truth_is_nan_and_truth_without_prediction_is_zero():
    labels, ids = scan_of([200, 200], [0, 1])
    result = score(labels, ids, predict((0, 200, 0, 0.5), num_points=400))
    assert result.per_class["bed"] == (1.0, 1.0, 1.0)
    assert result.per_class["chair"] == (0.0, 0.0, 0.0)
    assert math.isnan(result.per_class["sofa"][0])
    assert result.ap == 0.5


def test_no_predictions_and_only_ignored_predictions_score_zero():
    labels, ids = scan_of([200, 200], [0, -1])
    assert score(labels, ids, predict(num_points=400)).ap == 0.0
    assert score(labels, ids, predict((200, 400, 0, 0.9), num_points=400)).ap == 0.0


def test_nothing_added_is_nan_without_a_warning(recwarn):
    assert math.isnan(InstanceAP(CLASSES).result().ap)
    assert InstanceAP(CLASSES).result().table().startswith("there is nothing to score: no scan has a labelled object")
    assert not recwarn.list


def test_classes_are_matched_by_name_and_unknown_ones_dropped():
    labels, ids = scan_of([200], [1])
    masks = np.ones((2, 200), dtype=bool)
    instances = Instances.from_masks(masks, [0, 1], [0.5, 0.9], ("chair", "piano"))
    assert score(labels, ids, instances).ap == 1.0


def test_result_prints_and_serialises():
    labels, ids = scan_of([200], [0])
    result = score(labels, ids, predict((0, 200, 0, 0.5), num_points=200))
    lines = result.table().splitlines()
    assert lines[2].split() == ["bed", "100.0", "100.0", "100.0"]
    assert lines[3].split() == ["chair", "-", "-", "-"]
    assert len({len(line) for line in lines}) == 1
    assert result.to_dict()["ap/bed"] == 1.0
    assert result.to_dict()["ap/chair"] is None


def test_truth_of_another_scan_is_refused():
    with pytest.raises(DataError, match="same points"):
        InstanceAP(CLASSES).add(np.zeros(5, int), np.zeros(5, int), predict((0, 3, 0, 1.0), num_points=6))
