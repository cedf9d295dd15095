"""What comes out: object instances as bit masks over superpoints (or points)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain


@dataclass(frozen=True, eq=False)
class Instances:
    """I instances of one scan. Masks stay bits over S segments and become points only when asked for.

    ``point_to_superpoint`` (N,) says which segment each point of the file belongs to; None when segments are the points.
    """

    bits: NDArray[np.uint8]                              # (I, ceil(S/8)), little bit order
    num_segments: int                                    # S
    labels: NDArray[np.int64]                            # (I,) index into classes
    scores: NDArray[np.float32]                          # (I,) in [0, 1]
    classes: tuple[str, ...]
    point_to_superpoint: NDArray[np.int64] | None = None  # (N,)
    evidence: dict[str, NDArray[Any]] = field(default_factory=dict)  # name -> (I, ...) what a score rests on

    def __post_init__(self) -> None:
        expected = (len(self.labels), (max(self.num_segments, 0) + 7) // 8)
        if self.bits.shape != expected or self.bits.dtype != np.uint8:
            raise DataError(explain("instance masks do not fit", got=f"{self.bits.dtype} {self.bits.shape}",
                                    expected=f"uint8 {expected}"))
        if self.num_segments < 0:
            raise DataError(explain("there cannot be fewer than no segments", got=self.num_segments))
        for name, values in self.evidence.items():
            if np.shape(values)[:1] != (len(self.labels),):
                raise DataError(explain(f"evidence {name!r} does not fit the instances", got=f"shape {np.shape(values)}",
                                        expected=f"{len(self.labels)} rows"))
        if len(self.scores) != len(self.labels):
            raise DataError(explain("every instance needs a score", got=f"{len(self.scores)} scores",
                                    expected=f"{len(self.labels)}"))
        if not np.isfinite(self.scores).all():
            row = int(np.flatnonzero(~np.isfinite(self.scores))[0])
            raise DataError(explain("a score is not finite", where=f"instance {row}", got=float(self.scores[row])))
        if len(self.labels) and (self.labels.min() < 0 or self.labels.max() >= len(self.classes)):
            row = int(np.flatnonzero((self.labels < 0) | (self.labels >= len(self.classes)))[0])
            raise DataError(explain("a label has no class name", where=f"instance {row}", got=int(self.labels[row]),
                                    expected=f"labels in [0, {len(self.classes)})"))
        ids = self.point_to_superpoint
        if ids is not None and len(ids) and (ids.min() < 0 or ids.max() >= self.num_segments):
            raise DataError(explain("point_to_superpoint is out of range", got=f"[{ids.min()}, {ids.max()}]",
                                    expected=f"ids in [0, {self.num_segments})"))

    @classmethod
    def from_masks(cls, masks: NDArray[np.bool_], labels: NDArray[Any], scores: NDArray[Any],
                   classes: tuple[str, ...] | list[str], point_to_superpoint: NDArray[np.int64] | None = None,
                   evidence: dict[str, NDArray[Any]] | None = None) -> Instances:
        """Pack boolean masks (I, S) over superpoints, or (I, N) over points when ``point_to_superpoint`` is None."""
        masks = np.asarray(masks, dtype=bool)
        return cls(bits=np.packbits(masks, axis=1, bitorder="little"), num_segments=masks.shape[1],
                   labels=np.asarray(labels, dtype=np.int64), scores=np.asarray(scores, dtype=np.float32),
                   classes=tuple(classes), point_to_superpoint=point_to_superpoint, evidence=dict(evidence or {}))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        parts = "points" if self.point_to_superpoint is None else f"superpoints of {len(self.point_to_superpoint)} points"
        return f"Instances({len(self)} of {len(self.classes)} classes on {self.num_segments} {parts})"

    def __getitem__(self, index: Any) -> Instances:
        """Select instances by slice, mask or integer index."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        return Instances(self.bits[rows], self.num_segments, self.labels[rows], self.scores[rows], self.classes,
                         self.point_to_superpoint, {name: value[rows] for name, value in self.evidence.items()})

    def on_points(self, rows: NDArray[Any]) -> Instances:
        """The same instances on some of the points alone: a mask (N,) or rows of the file."""
        ids = np.arange(self.num_segments) if self.point_to_superpoint is None else self.point_to_superpoint
        return replace(self, point_to_superpoint=ids[rows])

    @property
    def segment_masks(self) -> NDArray[np.bool_]:
        """Masks (I, S) over superpoints."""
        return np.unpackbits(self.bits, axis=1, count=self.num_segments, bitorder="little").astype(bool)

    @property
    def point_masks(self) -> NDArray[np.bool_]:
        """Masks (I, N) over the points of the file: I*N bytes, so ask for one instance at a time on large scans."""
        masks = self.segment_masks
        return masks if self.point_to_superpoint is None else masks[:, self.point_to_superpoint]

    @property
    def segment_sizes(self) -> NDArray[np.int64]:
        """Number of points of each segment (S,)."""
        if self.point_to_superpoint is None:
            return np.ones(self.num_segments, dtype=np.int64)
        return np.bincount(self.point_to_superpoint, minlength=self.num_segments)

    @property
    def num_points(self) -> NDArray[np.int64]:
        """Number of points of each instance (I,)."""
        return self.segment_masks @ self.segment_sizes

    def to_labels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return per-point (instance row, class index), each (N,) int64 and -1 for none.

        Where instances overlap the higher score wins, and of equal scores the lower row.
        """
        owner = np.full(self.num_segments, -1, dtype=np.int64)
        masks = self.segment_masks
        for row in np.argsort(-self.scores, kind="stable")[::-1]:
            owner[masks[row]] = row
        if self.point_to_superpoint is not None:
            owner = owner[self.point_to_superpoint]
        if len(self) == 0:
            return owner, owner.copy()
        return owner, np.where(owner >= 0, self.labels[owner], -1)

    def boxes(self, xyz: NDArray[np.floating]) -> NDArray[np.float64]:
        """Axis-aligned boxes (I, 2, 3) [min, max] of each instance's points; NaN for an empty one."""
        boxes = np.full((len(self), 2, 3), np.nan)
        low, high = self._segment_corners(xyz)
        for row, mask in enumerate(self.segment_masks & (self.segment_sizes > 0)):
            if mask.any():
                boxes[row] = low[mask].min(axis=0), high[mask].max(axis=0)
        return boxes

    def _segment_corners(self, xyz: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Lowest and highest corner of each segment's points, both (S, 3); anything for an empty one."""
        if self.point_to_superpoint is None:
            return xyz, xyz
        filled = self.segment_sizes > 0
        starts = (np.cumsum(self.segment_sizes) - self.segment_sizes)[filled]
        rows = xyz[np.argsort(self.point_to_superpoint, kind="stable")]
        low, high = (np.zeros((self.num_segments, 3), dtype=xyz.dtype) for _ in range(2))
        if len(rows):
            low[filled], high[filled] = np.minimum.reduceat(rows, starts), np.maximum.reduceat(rows, starts)
        return low, high

    def to_records(self, xyz: NDArray[np.floating]) -> list[dict[str, Any]]:
        """One json-ready record per instance: id, label, score, num_points, box (min and max corner, metres; None if empty).

        And the evidence that is one number or word an instance.
        """
        evidence = {name: values for name, values in self.evidence.items() if np.ndim(values) == 1}
        records = []
        for row, (box, size) in enumerate(zip(self.boxes(xyz), self.num_points)):
            corners = {"min": box[0].tolist(), "max": box[1].tolist()} if size else None  # json has no NaN
            records.append({"id": row, "label": self.classes[self.labels[row]], "score": round(float(self.scores[row]), 6),
                            "num_points": int(size), "box": corners,
                            "evidence": {name: _plain(values[row]) for name, values in evidence.items()}})
        return records

    def to_coco_rle(self) -> list[dict[str, Any]]:
        """Uncompressed COCO run lengths over points, zeros first: ``{"size": [N, 1], "counts": [...]}``."""
        encoded = []
        for row in range(len(self)):
            mask = self[row].point_masks[0]
            starts = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)[:-1])
            counts = np.diff(np.concatenate([[0], starts, [len(mask)]]))
            encoded.append({"size": [len(mask), 1], "counts": counts.tolist()})
        return encoded

    def to_arrays(self) -> dict[str, Any]:
        """Everything as plain arrays by name, from which ``from_arrays`` builds the same again."""
        arrays: dict[str, Any] = {
            "bits": self.bits, "num_segments": np.array(self.num_segments, dtype=np.int64), "labels": self.labels,
            "scores": self.scores, "classes": np.array(json.dumps(self.classes))}
        if self.point_to_superpoint is not None:
            arrays["point_to_superpoint"] = self.point_to_superpoint
        return arrays | {f"evidence.{name}": value for name, value in self.evidence.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Instances:
        """Build from what ``to_arrays`` gave; other names are passed over. Raises DataError."""
        if missing := {"bits", "num_segments", "labels", "scores", "classes"} - arrays.keys():
            raise DataError(explain("these arrays are no instances", got=f"no {', '.join(sorted(missing))}"))
        classes = json.loads(str(arrays["classes"]))
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise DataError(explain("the classes are no list of names", got=str(classes)[:80]))
        labels, scores = _cast("labels", arrays["labels"], np.int64), _cast("scores", arrays["scores"], np.float32)
        ids = arrays.get("point_to_superpoint")
        if ids is not None:
            ids = _cast("point_to_superpoint", ids, np.int64)
        num_segments = int(_cast("num_segments", np.ravel(arrays["num_segments"]), np.int64)[0])
        if ids is not None and not len(labels) and num_segments > len(ids):   # no masks hold the number to account
            raise DataError(explain("there are more superpoints than points", got=num_segments, expected=f"at most {len(ids)}"))
        evidence = {name.removeprefix("evidence."): value for name, value in arrays.items() if name.startswith("evidence.")}
        return cls(arrays["bits"], num_segments, labels, scores, tuple(classes), ids, evidence)


def _plain(value: np.generic) -> Any:
    """A number or word for json, floats to six places, None for what json has no word for."""
    if isinstance(value, np.floating):
        return round(float(value), 6) if np.isfinite(value) else None
    return value.item()


def _cast(name: str, values: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """A flat column in its type, or DataError where that would be another kind of number."""
    if values.ndim != 1 or not np.can_cast(values.dtype, dtype, "same_kind"):
        raise DataError(explain(f"{name!r} is no flat column of {np.dtype(dtype).name}", got=f"{values.dtype} {values.shape}"))
    return values.astype(dtype)
