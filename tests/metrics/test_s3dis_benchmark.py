"""S3DISBenchmark: AP and S3DIS's own numbers of the same rooms, each as its metric alone has it."""

import numpy as np
import pytest

from pc3d.cli.evaluate import Protocol
from pc3d.errors import DataError
from pc3d.metrics import INSTANCE_PROTOCOLS, InstanceAP, S3DISBenchmark, S3DISInstances, merge_folds
from pc3d.structures import Instances

CLASSES = ("wall", "chair", "table", "sofa")


def rooms(random_scan):
    """Six areas of three rooms: arguments of ``add``."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        area = []
        for _ in range(3):
            segment, labels, ids, masks, predicted, scores = random_scan(rng, 900, 20, 8)
            labels[labels == 3] = -1  # no truth of the last class
            area.append((labels, ids, Instances.from_masks(masks, predicted, scores, CLASSES, point_to_superpoint=segment)))
        yield area


def collect(kind, areas):
    metric = kind(CLASSES)
    for area in areas:
        for room in area:
            metric.add(*room)
    return metric


def test_six_areas_merged_have_the_numbers_of_both_metrics(random_scan):
    areas = list(rooms(random_scan))
    merged = merge_folds([collect(S3DISBenchmark, [area]) for area in areas])
    assert merged.num_scans == 18
    ap, own = collect(InstanceAP, areas).result().to_dict(), collect(S3DISInstances, areas).result().to_dict()
    assert not ap.keys() & own.keys()
    assert merged.result().to_dict() == pytest.approx(ap | own, abs=1e-12)
    assert ap["ap"] > 0
    assert own["mprec"] > 0


def test_the_table_has_a_row_per_class_and_the_mean_last(random_scan):
    result = collect(S3DISBenchmark, rooms(random_scan)).result()
    numbers = result.to_dict()
    head, *rows = [line.split() for line in result.table().splitlines() if not line.startswith("-")]
    assert head == ["class", "AP", "AP50", "AP25", "Prec", "Rec", "Cov", "WCov"]
    assert [row[0] for row in rows] == [*CLASSES, "mean"]
    chair = [numbers[f"{key}/chair"] for key in ("ap", "ap50", "ap25", "prec", "rec", "cov", "wcov")]
    mean = [numbers[key] for key in ("ap", "ap50", "ap25", "mprec", "mrec", "mcov", "mwcov")]
    assert rows[1][1:] == [f"{100 * value:.1f}" for value in chair]
    assert rows[-1][1:] == [f"{100 * value:.1f}" for value in mean]
    assert rows[3][1:4] == ["-"] * 3
    assert rows[3][5:] == ["-"] * 3  # predicted, so there is a precision, but never true


def test_ap_alone_is_not_merged_into_both():
    with pytest.raises(DataError, match="got InstanceAP; expected S3DISBenchmark"):
        S3DISBenchmark(CLASSES).update(InstanceAP(CLASSES))


def test_the_command_knows_every_protocol():
    assert [choice.value for choice in Protocol] == list(INSTANCE_PROTOCOLS)
