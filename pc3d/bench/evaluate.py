"""``pc3d bench evaluate``: ScanNet AP of 312 scans with 200 predictions each, on one core.

The peer is the literal way, written out here after the public evaluators: masks become points, travel as run lengths in text,
and are compared with every true instance of their class in numpy; then Python loops match them, threshold by threshold. It is
timed on a few scans, and what it takes a scan is what counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.bench.compare import Row, compare, measure
from pc3d.bench.scene import make_scene
from pc3d.errors import DataError, explain
from pc3d.metrics import InstanceAP
from pc3d.structures import Instances
from pc3d.superpoints import compute_superpoints

SCANS, PREDICTIONS, PEER_SCANS, PEER_ROUNDS = 312, 200, 3, 3
CLASSES = tuple(f"class {label}" for label in range(18))
MIN_POINTS = 100
OVERLAPS = [*np.arange(0.5, 0.95, 0.05), 0.25]

Scan = tuple[NDArray[np.int64], NDArray[np.int64], Instances]


def run(rounds: int) -> Iterator[Row]:
    """A few scans beside the literal way, with and without the coding of masks; then all of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scans = [_make_scan(seed) for seed in range(PEER_SCANS)]
        for coded in (True, False):
            yield _beside_the_literal_way(scans, rounds, coded=coded)
        row = measure(f"AP of {SCANS} scans", lambda: _ap(scans * (SCANS // PEER_SCANS)), 1,
                      note=f"{PREDICTIONS} predictions each, {PEER_SCANS} different scans in turn")
        yield replace(row, figures={"milliseconds_per_scan": 1e3 * row.seconds / SCANS})
    finally:
        torch.set_num_threads(threads)


def _beside_the_literal_way(scans: list[Scan], rounds: int, *, coded: bool) -> Row:
    points = [instances.point_masks for _, _, instances in scans]
    literal = (lambda: literal_ap(scans)) if coded else (lambda: literal_ap(scans, points))
    note = "from superpoint masks, run lengths in text and back" if coded else "no coding: the peer is given point masks"
    return compare(f"AP of {len(scans)} scans", lambda: _ap(scans), literal, min(rounds, PEER_ROUNDS),
                   peer_name="the public evaluators' steps", same=_same, note=f"{PREDICTIONS} predictions each; {note}")


def _make_scan(seed: int) -> Scan:
    """Scene S with 200 predictions: superpoints of a true instance or two, some missing, some of others, scores with ties."""
    rng = np.random.default_rng(seed)
    scene = compute_superpoints(make_scene(seed))
    ids, segment = scene.instances, scene.superpoints
    assert ids is not None
    assert segment is not None
    labels = np.where(ids > 1, ids % len(CLASSES), -1)
    ids = np.where(ids > 1, ids, -1)
    owner = np.full(int(segment.max()) + 1, -1)
    owner[segment] = ids
    target = rng.integers(2, int(ids.max()) + 1, size=PREDICTIONS)
    masks = (owner == target[:, None]) ^ (rng.random((PREDICTIONS, len(owner))) < rng.choice([0, 0.01, 0.03], (PREDICTIONS, 1)))
    predicted = np.where(rng.random(PREDICTIONS) < 0.9, target, rng.integers(len(CLASSES), size=PREDICTIONS)) % len(CLASSES)
    scores = np.round(rng.random(PREDICTIONS), 2)
    return labels, ids, Instances.from_masks(masks, predicted, scores, CLASSES, point_to_superpoint=segment)


def _ap(scans: list[Scan]) -> tuple[float, float, float]:
    metric = InstanceAP(CLASSES, MIN_POINTS)
    for labels, ids, instances in scans:
        metric.add(labels, ids, instances)
    result = metric.result()
    return result.ap, result.ap50, result.ap25


def _same(own: tuple[float, ...], peer: tuple[float, ...]) -> None:
    if not np.abs(np.subtract(own, peer)).max() <= 1e-12:
        raise DataError(explain("the two sides computed different AP", got=own, expected=peer))


# ---- the literal way -------------------------------------------------------------------------------------------------

def literal_ap(scans: list[Scan], point_masks: list[NDArray[np.bool_]] | None = None) -> tuple[float, float, float]:
    """(AP, AP50, AP25); masks are expanded, coded and decoded unless given over points."""
    assigned = []
    for row, (labels, ids, instances) in enumerate(scans):
        masks = [_decode(code) for code in _encode_all(instances)] if point_masks is None else point_masks[row]
        codes = np.where((labels >= 0) & (ids >= 0), (labels + 1) * 1000 + ids + 1, 0)
        assigned.append(_assign(codes, masks, instances))
    table = np.array([[_class_ap(assigned, label, overlap) for overlap in OVERLAPS] for label in range(len(CLASSES))])
    return float(np.nanmean(table[:, :9])), float(np.nanmean(table[:, 0])), float(np.nanmean(table[:, 9]))


def _encode_all(instances: Instances) -> list[dict[str, Any]]:
    segment = instances.point_to_superpoint
    assert segment is not None
    codes = []
    for mask in instances.segment_masks.astype(np.int32)[:, segment]:
        changes = np.where(np.diff(np.concatenate([[0], mask, [0]])))[0] + 1
        changes[1::2] -= changes[::2]
        codes.append({"length": len(mask), "counts": " ".join(str(change) for change in changes)})
    return codes


def _decode(code: dict[str, Any]) -> NDArray[np.bool_]:
    numbers = np.array(code["counts"].split(), dtype=np.int64)
    mask = np.zeros(code["length"], dtype=bool)
    for start, length in zip(numbers[::2] - 1, numbers[1::2]):
        mask[start:start + length] = True
    return mask


def _assign(codes: NDArray[np.int64], masks: Any, instances: Instances) -> tuple[list[dict], list[dict]]:
    """Every prediction with every true instance of its class: how many points they share."""
    void = codes == 0
    truths = [{"code": code, "label": code // 1000 - 1, "size": np.count_nonzero(codes == code), "matched": []}
              for code in np.unique(codes) if code]
    predictions = []
    for row, (mask, label, score) in enumerate(zip(masks, instances.labels, instances.scores)):
        size = np.count_nonzero(mask)
        if size < MIN_POINTS:
            continue
        prediction = {"row": row, "label": label, "score": float(score), "size": size, "matched": [],
                      "void": np.count_nonzero(void & mask)}
        for truth in truths:
            shared = np.count_nonzero((codes == truth["code"]) & mask) if truth["label"] == label else 0
            if shared:
                prediction["matched"].append((truth, shared))
                truth["matched"].append((prediction, shared))
        predictions.append(prediction)
    return truths, predictions


def _class_ap(assigned: list[tuple[list[dict], list[dict]]], label: int, overlap: float) -> float:
    right, scores, missed, there = [], [], 0, False
    for truths, predictions in assigned:
        spent: set[int] = set()
        for truth in (t for t in truths if t["label"] == label and t["size"] >= MIN_POINTS):
            there, held = True, None
            for prediction, shared in truth["matched"]:
                iou = shared / (truth["size"] + prediction["size"] - shared)
                if prediction["row"] in spent or not iou > overlap:
                    continue
                if held is None:
                    spent.add(prediction["row"])
                    held = prediction["score"]
                else:
                    right.append(0)
                    scores.append(min(held, prediction["score"]))
                    held = max(held, prediction["score"])
            missed += held is None
            if held is not None:
                right.append(1)
                scores.append(held)
        for prediction in (p for p in predictions if p["label"] == label):
            pairs = prediction["matched"]
            if any(shared / (truth["size"] + prediction["size"] - shared) > overlap for truth, shared in pairs):
                continue
            ignored = prediction["void"] + sum(shared for truth, shared in pairs if truth["size"] < MIN_POINTS)
            if ignored / prediction["size"] <= overlap:
                right.append(0)
                scores.append(prediction["score"])
    return _integrate(np.array(right), np.array(scores), missed) if there else float("nan")


def _integrate(right: NDArray[Any], scores: NDArray[Any], missed: int) -> float:
    if not len(scores):
        return 0.0
    order = np.argsort(scores)
    right, scores = right[order], scores[order]
    precision, recall = [], []
    for first in np.unique(scores, return_index=True)[1]:
        hits = right[first:].sum()
        precision.append(hits / (len(right) - first))
        recall.append(hits / (right.sum() + missed))
    steps = np.convolve([recall[0], *recall, 0.0, 0.0], [-0.5, 0, 0.5], "valid")
    return float(np.dot([*precision, 1.0], steps))
