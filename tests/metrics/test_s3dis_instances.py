"""S3DISInstances against a literal, slow reading of ASIS's script: masks per point, predictions painted one by one."""

import math

import numpy as np
import pytest

from pc3d.errors import DataError
from pc3d.metrics import S3DIS_CLASS_ORDERS, S3DISInstances, merge_folds
from pc3d.structures import Instances

CLASSES = ("ceiling", "chair", "table", "sofa")


# ---- the slow reading ------------------------------------------------------------------------------------------------

def slow_mode(values):
    """The most frequent value, the smallest of equals, as scipy.stats.mode."""
    values = values.tolist()
    return min(set(values), key=lambda value: (-values.count(value), value))


def slow_room(gt_labels, gt_ids, masks, labels, scores):
    """Masks of true and painted instances of one room, by class."""
    ignored = (gt_labels < 0) | (gt_labels >= len(CLASSES)) | (gt_ids < 0)
    painted_id, painted_label = np.full(len(gt_ids), -1), np.full(len(gt_ids), -1)
    for row in sorted(range(len(scores)), key=lambda row: scores[row]):
        painted_id[masks[row]], painted_label[masks[row]] = row, labels[row]
    true, predicted = ([[] for _ in CLASSES] for _ in range(2))
    for number in sorted(set(gt_ids[~ignored].tolist())):
        mask = (gt_ids == number) & ~ignored
        true[slow_mode(gt_labels[mask])].append(mask)
    for number in sorted(set(painted_id.tolist()) - {-1}):
        mask = painted_id == number
        predicted[slow_mode(painted_label[mask])].append(mask)
    return true, predicted


def slow_iou(a, b):
    return float((a & b).sum()) / (a | b).sum()


def slow_class(rooms, label):
    covs, wcovs, right, wrong, num_true = [], [], 0, 0, 0
    for true, predicted in rooms:
        true, predicted = true[label], predicted[label]
        best = [max([0.0] + [slow_iou(t, p) for p in predicted]) for t in true]
        sizes = [t.sum() for t in true]
        if true:
            covs.append(sum(best) / len(true))
            wcovs.append(sum(b * s for b, s in zip(best, sizes)) / sum(sizes))
        num_true += len(true)
        for p in predicted:
            if max([-1.0] + [slow_iou(t, p) for t in true]) >= 0.5:
                right += 1
            else:
                wrong += 1
    return (np.mean(covs) if covs else math.nan, np.mean(wcovs) if wcovs else math.nan,
            right / (right + wrong) if right + wrong else math.nan, min(1.0, right / num_true) if num_true else math.nan)


def slow_means(table):
    columns = [[value for value in column if not math.isnan(value)] for column in zip(*table)]
    return [sum(column) / len(column) if column else math.nan for column in columns]


# ---- random rooms ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("by_points", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_literal_script(random_scan, seed, by_points):
    """1,500 rooms in 200 areas."""
    rng, precisions = np.random.default_rng(seed), []
    for _ in range(20):
        metric, rooms = S3DISInstances(CLASSES), []
        for _ in range(int(rng.integers(1, 15))):
            segment, labels, ids, masks, predicted, scores = random_scan(rng, 80, 22, int(rng.integers(2, 12)))
            labels[labels == 3] = -1                                 # no truth of the last class
            if rng.random() < 0.1:
                masks[:] = False                                     # a room without predictions
            points = masks[:, segment]
            instances = Instances.from_masks(points, predicted, scores, CLASSES) if by_points else \
                Instances.from_masks(masks, predicted, scores, CLASSES, point_to_superpoint=segment)
            metric.add(labels, ids, instances)
            rooms.append(slow_room(labels, ids, points, predicted, scores))
        result = metric.result()
        table = [slow_class(rooms, label) for label in range(len(CLASSES))]
        for name, row in zip(CLASSES, table):
            np.testing.assert_allclose(result.per_class[name], row, rtol=0, atol=1e-12)
        means = (result.mcov, result.mwcov, result.mprec, result.mrec)
        np.testing.assert_allclose(means, slow_means(table), rtol=0, atol=1e-12)
        assert math.isnan(result.per_class["sofa"][3])
        precisions.append(result.mprec)
    assert 0 < np.nanmean(precisions) < 1


# ---- single promises -------------------------------------------------------------------------------------------------

def predict(num_points, *rows):
    """Instances from (start, stop, label, score)."""
    masks = np.zeros((len(rows), num_points), dtype=bool)
    for row, (start, stop, _, _) in enumerate(rows):
        masks[row, start:stop] = True
    return Instances.from_masks(masks, [r[2] for r in rows], [r[3] for r in rows], CLASSES)


def score(labels, ids, instances):
    metric = S3DISInstances(CLASSES)
    metric.add(np.asarray(labels), np.asarray(ids), instances)
    return metric.result()


def test_a_later_or_surer_prediction_takes_the_points():
    labels, ids = [0] * 10, [0] * 10
    surer_last = score(labels, ids, predict(10, (0, 10, 0, 0.2), (0, 10, 1, 0.9)))
    surer_first = score(labels, ids, predict(10, (0, 10, 1, 0.9), (0, 10, 0, 0.2)))
    tie = score(labels, ids, predict(10, (0, 10, 0, 0.5), (0, 10, 1, 0.5)))
    assert [r.per_class["ceiling"][3] for r in (surer_last, surer_first, tie)] == [0.0, 0.0, 0.0]
    assert math.isnan(surer_last.per_class["ceiling"][2])  # painted over wholly: no prediction is left


def test_iou_of_exactly_one_half_is_right_and_recall_stays_below_one():
    result = score([0] * 10, [0] * 10, predict(10, (0, 5, 0, 0.9), (5, 10, 0, 0.8)))
    assert result.per_class["ceiling"] == (0.5, 0.5, 1.0, 1.0)


def test_coverage_is_averaged_in_the_room_first():
    metric = S3DISInstances(CLASSES)
    metric.add(np.zeros(10, int), np.repeat([0, 1], [2, 8]), predict(10, (2, 10, 0, 0.9)))   # 1 of 2, 8 of 10 points
    metric.add(np.zeros(10, int), np.zeros(10, int), predict(10, (0, 10, 0, 0.9)))
    cov, wcov, prec, rec = metric.result().per_class["ceiling"]
    assert (cov, wcov, prec, rec) == (pytest.approx(0.75), pytest.approx(0.9), 1.0, pytest.approx(2 / 3))


def test_a_true_instance_has_the_class_of_most_of_its_points():
    assert score([1] * 6 + [0] * 4, [7] * 10, predict(10, (0, 10, 1, 0.9))).per_class["chair"] == (1.0, 1.0, 1.0, 1.0)


def test_predicted_classes_of_other_names_paint_nothing():
    masks = np.ones((2, 10), dtype=bool)
    instances = Instances.from_masks(masks, [0, 1], [0.5, 0.9], ("chair", "piano"))
    assert score([1] * 10, [0] * 10, instances).mrec == 1.0


def test_folds_merge_as_if_one_metric_had_seen_all_rooms(random_scan):
    rng = np.random.default_rng(0)
    folds, together = [S3DISInstances(CLASSES) for _ in range(6)], S3DISInstances(CLASSES)
    for fold in folds:
        segment, labels, ids, masks, predicted, scores = random_scan(rng, 100, 25, 9)
        instances = Instances.from_masks(masks, predicted, scores, CLASSES, point_to_superpoint=segment)
        fold.add(labels, ids, instances)
        together.add(labels, ids, instances)
    before = folds[0].result().to_dict()
    merged = merge_folds(folds)
    assert merged.num_scans == 6
    expected = together.result().to_dict()
    assert merged.result().to_dict() == {key: value if value is None else pytest.approx(value, abs=1e-12)
                                         for key, value in expected.items()}
    assert folds[0].result().to_dict() == before
    with pytest.raises(DataError, match="settings"):
        merge_folds([folds[0], S3DISInstances(CLASSES[:2])])
    with pytest.raises(DataError, match="no fold"):
        merge_folds([])


def test_nothing_added_is_nan_without_a_warning(recwarn):
    result = S3DISInstances().result()
    assert math.isnan(result.mprec)
    assert result.to_dict()["rec/sofa"] is None
    assert len({len(line) for line in result.table().splitlines()}) == 1
    assert not recwarn.list


def test_both_class_orders_name_the_same_classes_elsewhere():
    softgroup, mask3d = S3DIS_CLASS_ORDERS["softgroup"], S3DIS_CLASS_ORDERS["mask3d"]
    assert sorted(softgroup) == sorted(mask3d)
    assert len(set(softgroup)) == 13
    assert [i for i in range(13) if softgroup[i] != mask3d[i]] == [7, 8, 9, 10]


def test_truth_of_another_room_is_refused():
    with pytest.raises(DataError, match="same points"):
        score([0] * 5, [0] * 5, predict(6, (0, 3, 0, 1.0)))
