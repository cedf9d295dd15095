"""SemanticIoU against counting point by point over all scans at once."""

import math

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.metrics import SemanticIoU, merge_folds

CLASSES = ("wall", "floor", "chair", "table", "piano")


def slow_result(truth, labels):
    """(iou, accuracy) of each class and the overall accuracy, over all scans as two lists of points."""
    pairs = [(t, p) for t, p in zip(truth, labels) if 0 <= t < len(CLASSES)]
    rows = []
    for label in range(len(CLASSES)):
        both = sum(t == label and p == label for t, p in pairs)
        either = sum(t == label or p == label for t, p in pairs)
        true = sum(t == label for t, _ in pairs)
        rows.append((both / either if either else math.nan, both / true if true else math.nan))
    return rows, (sum(t == p for t, p in pairs) / len(pairs) if pairs else math.nan)


@pytest.mark.parametrize("seed", range(400))
def test_agrees_with_counting_point_by_point(seed):
    """2,000 scans in 400 sets."""
    rng = np.random.default_rng(seed)
    metric, truth, labels = SemanticIoU(CLASSES), [], []
    known = rng.integers(1, 6)                                        # classes from here on have no truth
    for _ in range(5):
        size = int(rng.integers(0, 40))                               # an empty scan, too
        true = rng.integers(-1, known, size=size)
        true[rng.random(size) < 0.1] = 9                              # a label without a name
        predicted = np.where(rng.random(size) < 0.6, true, rng.integers(-1, 7, size=size))
        metric.add(true, predicted)
        truth += true.tolist()
        labels += predicted.tolist()
    result = metric.result()
    rows, overall = slow_result(truth, labels)
    np.testing.assert_allclose([result.per_class[name] for name in CLASSES], rows, rtol=0, atol=1e-12)
    np.testing.assert_allclose((result.miou, result.macc), np.nanmean(rows, axis=0), rtol=0, atol=1e-12)
    assert result.oacc == pytest.approx(overall, abs=1e-12)
    assert metric.confusion.sum() == sum(0 <= t < len(CLASSES) for t in truth)


def test_ignored_truth_does_not_count_and_no_prediction_is_wrong():
    metric = SemanticIoU(CLASSES)
    metric.add(np.array([-1, 0, 0, 1]), np.array([0, 0, -1, 1]))
    assert metric.result().per_class["wall"] == (0.5, 0.5)
    assert metric.result().oacc == pytest.approx(2 / 3)


def test_a_class_predicted_without_truth_has_iou_zero_and_no_accuracy():
    metric = SemanticIoU(CLASSES)
    metric.add(np.array([0, 0]), np.array([0, 2]))
    iou, accuracy = metric.result().per_class["chair"]
    assert iou == 0.0
    assert math.isnan(accuracy)


def test_folds_merge_into_one_confusion_matrix():
    folds = [SemanticIoU(CLASSES), SemanticIoU(CLASSES)]
    folds[0].add(np.array([0, 1]), np.array([0, 0]))
    folds[1].add(np.array([1, 1]), np.array([1, 0]))
    merged = merge_folds(folds)
    assert merged.num_scans == 2
    assert merged.confusion[1, :2].tolist() == [2, 1]
    assert folds[0].confusion[1, :2].tolist() == [1, 0]
    with pytest.raises(DataError, match="different classes"):
        folds[0].update(SemanticIoU(CLASSES[:2]))


def test_nothing_added_is_nan_without_a_warning(recwarn):
    result = SemanticIoU(CLASSES).result()
    assert math.isnan(result.miou)
    assert result.to_dict()["iou/wall"] is None
    assert result.table().splitlines()[-1] == "overall accuracy -"
    assert not recwarn.list


def test_labels_of_another_scan_are_refused():
    with pytest.raises(DataError, match="same points"):
        SemanticIoU(CLASSES).add(np.zeros(3, int), np.zeros(4, int))
