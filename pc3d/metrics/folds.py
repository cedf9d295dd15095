"""Metrics of several folds as one: S3DIS's 6-fold numbers, or what several processes evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Protocol, TypeVar

from pc3d.errors import DataError, explain


class Mergeable(Protocol):
    """A metric that can take over what another of its kind collected."""

    def update(self, other: Any) -> None:
        """Add all scans of another metric."""


Metric = TypeVar("Metric", bound=Mergeable)


def merge_folds(folds: Sequence[Metric]) -> Metric:
    """Return a metric of the scans of all folds together, as if one had seen them all; the folds stay as they are.

    This is what 6-fold means for S3DIS in ASIS's script: rooms of six areas, each predicted by the network that has not seen
    its area, then one evaluation. Raises DataError when there is no fold, or when the settings of two differ.
    """
    if not folds:
        raise DataError(explain("there is no fold to merge", got="an empty list", expected="one metric per fold"))
    merged = deepcopy(folds[0])
    for fold in folds[1:]:
        merged.update(fold)
    return merged
