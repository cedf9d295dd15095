"""Class-agnostic instance AP under a named protocol: the published numbers differ in what they call truth.

Five public scripts score "class-agnostic AP" on the same scans, and their numbers do not compare: they differ in which
objects are true, whether the rest is void or an object itself, and whose scores count. A number is only good together with
the name of its protocol, so the result carries it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import ConfigError, explain
from pc3d.metrics.contingency import Truth, check_scan, count_shared, truth_by_class_and_id, truth_by_id
from pc3d.metrics.instance_ap import InstanceAP
from pc3d.metrics.report import percent
from pc3d.structures import Instances


@dataclass(frozen=True)
class AgnosticProtocol:
    """What a class-agnostic script counts; matching, thresholds and integration are ScanNet's in all of them."""

    name: str
    source: str
    stuff: tuple[str, ...] = ("wall", "floor")  # classes whose instances are void
    num_classes: int | None = None              # how many other classes the dataset must have; None: any
    own_scores: bool = False                    # False: every prediction scores 1
    by_class: bool = True                       # an id with two classes is two instances, matched in order of class
    void: bool = True                           # False: every id is truth, whatever its class, and what has no id is one more
    min_points: int = 100


PROTOCOLS = {protocol.name: protocol for protocol in (
    AgnosticProtocol("scannetv2-18", "SAI3D: ScanNetV2's classes but wall and floor, every score 1", num_classes=18),
    AgnosticProtocol("scannetv2ins-19", "SA3DIP: the same on ScanNetV2-INS, whose re-annotated objects are one class more",
                     num_classes=19),
    AgnosticProtocol("scannet200-198", "Open3DIS: ScanNet200's classes but wall and floor, every score 1", num_classes=198),
    AgnosticProtocol("scannet200-198-scored", "ESAM: the same objects in order of id, the predictions' own scores",
                     num_classes=198, own_scores=True, by_class=False),
    AgnosticProtocol("annotated", "MaskClustering --no_class: every annotated object, the unannotated rest as one object, "
                     "nothing is void, the predictions' own scores", stuff=(), own_scores=True, by_class=False, void=False),
    AgnosticProtocol("objects", "pc3d: all classes but wall, floor and ceiling of any dataset, the predictions' own scores",
                     stuff=("wall", "floor", "ceiling"), own_scores=True),
)}


@dataclass(frozen=True)
class ClassAgnosticResult:
    """AP over IoU 0.5..0.9, at 0.5 and at 0.25, in [0, 1], under the named protocol; NaN where there is no truth."""

    protocol: str
    ap: float
    ap50: float
    ap25: float

    def table(self) -> str:
        """Return an aligned text table in percent with the protocol's name."""
        width = max(len("protocol"), len(self.protocol))
        values = " ".join(f"{percent(value):>6}" for value in (self.ap, self.ap50, self.ap25))
        head = f"{'protocol':<{width}} {'AP':>6} {'AP50':>6} {'AP25':>6}"
        return "\n".join([head, "-" * len(head), f"{self.protocol:<{width}} {values}"])

    def to_dict(self) -> dict[str, str | float | None]:
        """Return json-ready values: protocol, ap, ap50, ap25; None where there is no truth."""
        numbers = {"ap": self.ap, "ap50": self.ap50, "ap25": self.ap25}
        return {"protocol": self.protocol} | {key: None if np.isnan(value) else value for key, value in numbers.items()}


class ClassAgnosticAP:
    """Instance AP without classes, collected scan by scan, under a protocol of ``PROTOCOLS`` or one of one's own.

    ``classes`` names what the true labels mean. Raises ConfigError for an unknown protocol, or when the classes that are
    left without stuff are not as many as the protocol speaks of.
    """

    def __init__(self, classes: Sequence[str], protocol: str | AgnosticProtocol) -> None:
        self.classes = tuple(classes)
        self.protocol = _protocol(protocol)
        self._is_object = np.array([*(name not in self.protocol.stuff for name in self.classes), False])  # last: no class
        expected, got = self.protocol.num_classes, int(self._is_object.sum())
        if expected not in (None, got):
            raise ConfigError(explain("these are not the classes of the protocol", where=self.protocol.name,
                                      got=f"{got} classes", expected=expected, do="Use the protocol 'objects' for other data"))
        self._ap = InstanceAP(("object",), self.protocol.min_points)

    @property
    def num_scans(self) -> int:
        """Number of scans added so far."""
        return self._ap.num_scans

    def add(self, gt_labels: NDArray[np.integer], gt_instances: NDArray[np.integer], instances: Instances) -> None:
        """Add one scan: true class index (N,) and instance id (N,) per point, -1 for none, and what was predicted.

        Predictions count whatever their class. Raises DataError when the arrays are not about the same points.
        """
        truth = self._truth(*check_scan(gt_labels, gt_instances, instances))
        scores = instances.scores if self.protocol.own_scores else np.ones(len(instances))
        self._ap.add_counted(truth, count_shared(instances, truth), np.zeros(len(instances), dtype=np.int64), scores)

    def update(self, other: ClassAgnosticAP) -> None:
        """Add all scans of another metric of the same classes and protocol; raises ConfigError for different ones."""
        own, theirs = (self.protocol, self.classes), (other.protocol, other.classes)
        if own != theirs:
            raise ConfigError(explain("metrics of different settings cannot be merged", got=theirs, expected=own))
        self._ap.update(other._ap)

    def result(self) -> ClassAgnosticResult:
        """Compute AP over all scans added so far."""
        result = self._ap.result()
        return ClassAgnosticResult(self.protocol.name, result.ap, result.ap50, result.ap25)

    def _truth(self, labels: NDArray[np.int64], ids: NDArray[np.int64]) -> Truth:
        if not self.protocol.void:
            return truth_by_id(np.zeros_like(labels), np.maximum(ids, -1) + 1, 1)
        known = (labels >= 0) & (labels < len(self.classes))
        objects = np.where(known, labels, -1)
        objects[~self._is_object[objects]] = -1
        if not self.protocol.by_class:
            return truth_by_id(np.minimum(objects, 0), ids, 1)
        truth = truth_by_class_and_id(objects, ids, len(self.classes))
        return Truth(truth.number, np.zeros_like(truth.labels), truth.sizes)


def _protocol(protocol: str | AgnosticProtocol) -> AgnosticProtocol:
    if isinstance(protocol, AgnosticProtocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ConfigError(explain("unknown class-agnostic protocol", got=protocol, expected=", ".join(PROTOCOLS)))
    return PROTOCOLS[protocol]
