"""Random scans with every awkward case, and the slow readings of protocols that several tests share."""

import math

import numpy as np
import pytest


@pytest.fixture(name="random_scan")
def give_random_scan():
    return random_scan


@pytest.fixture(name="slow_class")
def give_slow_class():
    return slow_class


def random_scan(rng, num_points=240, num_superpoints=40, num_predictions=14):
    """A scan whose truth follows superpoints only roughly, with void, small truth, duplicates, ties and tiny predictions."""
    segment = rng.integers(num_superpoints, size=num_points)
    owner = rng.integers(-1, 7, size=num_superpoints)
    ids = owner[segment]
    flip = rng.random(num_points) < 0.08
    ids = np.where(flip, rng.integers(-1, 7, size=num_points), ids)
    class_of = rng.choice([-1, 0, 0, 0, 1, 2], size=8)          # class 3 never has truth
    labels = class_of[ids]
    stray = rng.random(num_points) < 0.04           # one id with two classes, and unknown classes
    labels = np.where(stray, rng.integers(-1, 6, size=num_points), labels)
    masks = np.zeros((num_predictions, num_superpoints), dtype=bool)
    for row in range(num_predictions):
        members = rng.integers(7, size=rng.integers(1, 3))    # some join two objects: both may match at IoU 0.25
        masks[row] = np.isin(owner, members) ^ (rng.random(num_superpoints) < rng.choice([0.0, 0.02, 0.1]))
    masks[-1] = masks[0]                            # an exact duplicate
    masks[-2] = False                               # an empty prediction
    predicted = np.where(rng.random(num_predictions) < 0.8, class_of[rng.integers(7, size=num_predictions)],
                         rng.integers(0, 4, size=num_predictions))
    predicted = np.maximum(predicted, 0)
    predicted[-1] = predicted[0]
    scores = np.round(rng.random(num_predictions), 1).astype(np.float32)   # many ties
    return segment, labels, ids, masks, predicted, scores


def slow_overlap(prediction, truth):
    """Points in both masks and their IoU; kept with the prediction, since every threshold asks again."""
    known = prediction.setdefault("overlaps", {})
    if id(truth) not in known:
        shared = int((prediction["mask"] & truth["mask"]).sum())
        known[id(truth)] = shared, shared / (prediction["size"] + truth["size"] - shared)
    return known[id(truth)]


def slow_class(scans, label, t, min_points):
    y_true, y_score, hard_fn, has_gt, has_pred = [], [], 0, False, False
    for truths, predictions in scans:
        mine = [p for p in predictions if p["label"] == label]
        same = [g for g in truths if g["label"] == label]
        for p in mine:
            p["visited"] = False
        has_pred |= bool(mine)
        for g in same:
            if g["size"] < min_points:
                continue
            has_gt = True
            held = None
            for p in mine:
                shared, iou = slow_overlap(p, g)
                if shared == 0 or p["visited"] or not iou > t:
                    continue
                if held is None:
                    held = p["score"]
                    p["visited"] = True
                else:
                    y_true.append(0)
                    y_score.append(min(held, p["score"]))
                    held = max(held, p["score"])
            if held is None:
                hard_fn += 1
            else:
                y_true.append(1)
                y_score.append(held)
        for p in mine:
            if any(slow_overlap(p, g)[1] > t for g in same):
                continue
            ignore = p["void"] + sum(slow_overlap(p, g)[0] for g in same if g["size"] < min_points)
            if ignore / p["size"] <= t:
                y_true.append(0)
                y_score.append(p["score"])
    if not has_gt:
        return math.nan
    if not has_pred:
        return 0.0
    precision, recall = [], []
    for score in sorted(set(y_score)):
        tp = sum(1 for y, s in zip(y_true, y_score) if s >= score and y)
        fp = sum(1 for y, s in zip(y_true, y_score) if s >= score and not y)
        fn = sum(y_true) - tp + hard_fn
        precision.append(tp / (tp + fp))
        recall.append(tp / (tp + fn))
    precision.append(1.0)
    recall.append(0.0)
    padded = [recall[0], *recall, 0.0]
    return sum(p * (padded[i] - padded[i + 2]) / 2 for i, p in enumerate(precision))
