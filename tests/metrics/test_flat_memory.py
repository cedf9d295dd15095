"""Metrics hold little of a scan: memory stays flat however many are added (quality.md T25)."""

import tracemalloc

import numpy as np

from pc3d.metrics import ClassAgnosticAP, InstanceAP, S3DISInstances, SemanticIoU
from pc3d.structures import Instances

CLASSES = ("bed", "chair", "table")
POINTS, SUPERPOINTS, PREDICTIONS, SCANS = 60_000, 800, 100, 60


def make_scan(seed):
    rng = np.random.default_rng(seed)
    segment = rng.integers(SUPERPOINTS, size=POINTS)
    ids = np.sort(rng.integers(-1, 30, size=SUPERPOINTS))[segment]
    masks = rng.random((PREDICTIONS, SUPERPOINTS)) < 0.05
    labels = np.where(ids >= 0, ids % len(CLASSES), -1)
    predicted, scores = rng.integers(0, len(CLASSES), PREDICTIONS), rng.random(PREDICTIONS)
    return labels, ids, Instances.from_masks(masks, predicted, scores, CLASSES, point_to_superpoint=segment)


def test_what_stays_of_a_scan_is_a_few_bytes_per_prediction():
    metrics = (InstanceAP(CLASSES), ClassAgnosticAP(CLASSES, "objects"), S3DISInstances(CLASSES))
    semantic = SemanticIoU(CLASSES)
    tracemalloc.start()
    try:
        sizes = []
        for seed in range(SCANS):
            labels, ids, instances = make_scan(seed % 4)
            for metric in metrics:
                metric.add(labels, ids, instances)
            semantic.add(labels, instances.to_labels()[1])
            del labels, ids, instances
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    kept = sum(column.nbytes for scan in metrics[0]._scans for column in scan) / SCANS
    assert (sizes[-1] - sizes[9]) / (SCANS - 10) < 20_000       # python's share; one mask over points alone is 60,000
    assert 0 < kept < 40 * PREDICTIONS * 10                     # torch's share: ten thresholds
