"""All that is reported on S3DIS, from one pass over the rooms: instance AP beside precision, recall and coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.metrics.instance_ap import InstanceAP, InstanceAPResult
from pc3d.metrics.report import text_table
from pc3d.metrics.s3dis import S3DISInstanceResult, S3DISInstances
from pc3d.structures import Instances


@dataclass(frozen=True)
class S3DISBenchmarkResult(InstanceAPResult):
    """Instance AP, and in ``painted`` S3DIS's own numbers of the same rooms."""

    painted: S3DISInstanceResult

    def table(self) -> str:
        """Return an aligned text table in percent, one row per class and the mean last."""
        own = self.painted
        rows = [(name, (*scores, *_precision_first(own.per_class[name]))) for name, scores in self.per_class.items()]
        mean = (self.ap, self.ap50, self.ap25, *_precision_first((own.mcov, own.mwcov, own.mprec, own.mrec)))
        return text_table(("AP", "AP50", "AP25", "Prec", "Rec", "Cov", "WCov"), rows, mean)

    def to_dict(self) -> dict[str, float | None]:
        """Return the flat json-ready numbers of both."""
        return super().to_dict() | self.painted.to_dict()


class S3DISBenchmark(InstanceAP):
    """``InstanceAP`` and ``S3DISInstances``, collected together room by room."""

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__(classes)
        self._painted = S3DISInstances(classes)

    def add(self, gt_labels: NDArray[np.integer], gt_instances: NDArray[np.integer], instances: Instances) -> None:
        """Add one room to both metrics: true class index (N,), instance id (N,), -1 for none, and what was predicted."""
        super().add(gt_labels, gt_instances, instances)
        self._painted.add(gt_labels, gt_instances, instances)

    def update(self, other: InstanceAP) -> None:
        """Add all rooms of another S3DISBenchmark of the same classes; raises DataError for anything else."""
        if not isinstance(other, S3DISBenchmark):
            raise DataError(explain("metrics of different kinds cannot be merged", got=type(other).__name__,
                                    expected=type(self).__name__))
        super().update(other)
        self._painted.update(other._painted)

    def result(self) -> S3DISBenchmarkResult:
        """Compute both over all rooms added so far."""
        ap = super().result()
        return S3DISBenchmarkResult(ap.ap, ap.ap50, ap.ap25, ap.per_class, self._painted.result())


#: What is collected of a data set, by the name of its benchmark's protocol.
INSTANCE_PROTOCOLS: dict[str, type[InstanceAP]] = {"scannet": InstanceAP, "s3dis": S3DISBenchmark}


def _precision_first(row: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    cov, wcov, prec, rec = row
    return prec, rec, cov, wcov
