"""One scan: points, what is known of each, and the triangles between them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.structures.ids import dense_ids

#: Column name -> (dtype, number of values per point; 0 for a flat column).
COLUMNS: dict[str, tuple[type[np.generic], int]] = {
    "xyz": (np.float32, 3),
    "rgb": (np.uint8, 3),
    "normals": (np.float32, 3),
    "intensity": (np.float32, 0),
    "labels": (np.int64, 0),
    "instances": (np.int64, 0),
    "superpoints": (np.int64, 0),
}

#: Metres from zero beyond which coordinates get an origin: float32 has less than 0.1 mm left there.
LARGE_OFFSET = 1000.0


@dataclass(frozen=True, eq=False)
class PointCloud:
    """N points of one scan, in metres, in the order of the file they came from.

    Coordinates are kept as float32 around a float64 ``origin`` so that map coordinates (UTM, millions of metres)
    keep their millimetres: the world position of row i is ``origin + xyz[i]``.

    ``labels`` and ``instances`` are -1 where unknown; ``superpoints`` are dense ids in [0, S).
    ``attributes`` holds every other column of the file by its name, ``metadata`` what belongs to the file as a whole.
    """

    xyz: NDArray[np.float32]                          # (N, 3) metres, relative to origin
    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))  # (3,) metres
    rgb: NDArray[np.uint8] | None = None              # (N, 3)
    normals: NDArray[np.float32] | None = None        # (N, 3) unit length
    intensity: NDArray[np.float32] | None = None      # (N,)
    faces: NDArray[np.int64] | None = None            # (F, 3) rows of xyz
    labels: NDArray[np.int64] | None = None           # (N,)
    instances: NDArray[np.int64] | None = None        # (N,)
    superpoints: NDArray[np.int64] | None = None      # (N,)
    attributes: dict[str, NDArray[Any]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (dtype, width) in COLUMNS.items():
            column = getattr(self, name)
            if column is None:
                continue
            column = _convert(name, np.asarray(column), dtype)
            rows = len(column) if name == "xyz" and column.ndim else len(self.xyz)
            expected = (rows, width) if width else (rows,)
            if column.shape != expected:
                raise DataError(explain(f"column {name!r} does not fit the points", got=f"shape {column.shape}",
                                        expected=f"shape {expected}"))
            object.__setattr__(self, name, column)
        for name, column in self.attributes.items():
            if len(column) != len(self.xyz):
                raise DataError(explain(f"attribute {name!r} does not fit the points", got=f"{len(column)} rows",
                                        expected=f"{len(self.xyz)} rows"))
        origin = np.asarray(self.origin, dtype=np.float64)
        if origin.shape != (3,):
            raise DataError(explain("origin must be one point", got=f"shape {origin.shape}", expected="shape (3,)"))
        object.__setattr__(self, "origin", origin)
        if self.faces is not None:
            faces = np.ascontiguousarray(self.faces, dtype=np.int64)
            if faces.size and (faces.ndim != 2 or faces.shape[1] != 3):
                raise DataError(explain("faces must be triangles", got=f"shape {faces.shape}", expected="shape (F, 3)"))
            object.__setattr__(self, "faces", faces.reshape(-1, 3))

    def __len__(self) -> int:
        return len(self.xyz)

    def __repr__(self) -> str:
        columns = [f.name for f in fields(self) if f.name in COLUMNS and f.name != "xyz" and getattr(self, f.name) is not None]
        faces = "" if self.faces is None else f", {len(self.faces)} faces"
        return f"PointCloud({len(self)} points{faces}; {', '.join([*columns, *self.attributes]) or 'xyz only'})"

    @classmethod
    def from_world(cls, xyz: NDArray[Any], **columns: Any) -> PointCloud:
        """Build a cloud from world coordinates (N, 3) of any float type, moving large offsets into ``origin``.

        Each axis is moved by its whole metres nearest to zero, which loses no bit of float32 coordinates.
        """
        world = np.asarray(xyz)
        if world.ndim != 2 or world.shape[1] != 3:
            raise DataError(explain("points must be rows of x, y, z", got=f"shape {world.shape}", expected="shape (N, 3)"))
        origin = np.zeros(3)
        finite = world if np.isfinite(world).all() else world[np.isfinite(world).all(axis=1)]
        if len(finite):
            # a column at a time: over axis 0 numpy takes ten times as long
            low, high = (np.array([take(finite[:, axis]) for axis in range(3)], np.float64) for take in (np.min, np.max))
            nearest = np.where(low > 0, np.floor(low), np.minimum(np.ceil(high), 0))
            origin = nearest if np.abs(nearest).max() > LARGE_OFFSET else origin
        return cls(xyz=(world - origin).astype(np.float32) if origin.any() else world.astype(np.float32),
                   origin=origin, **columns)

    @property
    def world_xyz(self) -> NDArray[np.float64]:
        """World coordinates (N, 3) in float64 metres."""
        return self.xyz.astype(np.float64) + self.origin

    @property
    def size(self) -> str:
        """Sides of the bounding box in words: ``5.49 x 4.88 x 2.61 m``; a scan in centimetres is known by them."""
        sides = (float(np.ptp(self.xyz[:, axis])) if len(self) else 0.0 for axis in range(3))
        return " x ".join(f"{side:.3g}" if side < 100 else f"{side:.0f}" for side in sides) + " m"

    def replace(self, **changes: Any) -> PointCloud:
        """Return a copy with some columns replaced."""
        return replace(self, **changes)

    def __getitem__(self, index: Any) -> PointCloud:
        """Select points by slice, mask or integer index; every column follows. Faces that lose a vertex are dropped."""
        rows = np.arange(len(self))[index]
        rows = np.atleast_1d(rows)
        columns = {name: getattr(self, name)[rows] for name in COLUMNS if getattr(self, name) is not None}
        if columns.get("superpoints") is not None:
            columns["superpoints"] = dense_ids(columns["superpoints"])[1]
        attributes = {name: column[rows] for name, column in self.attributes.items()}
        return replace(self, **columns, attributes=attributes, faces=self._select_faces(rows))

    def _select_faces(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        if self.faces is None:
            return None
        new_row = np.full(len(self), -1, dtype=np.int64)
        new_row[rows] = np.arange(len(rows))
        faces = new_row[self.faces]
        return faces[(faces >= 0).all(axis=1)]

    def validate(self, *, min_points: int = 1, source: object = "point cloud") -> PointCloud:
        """Return self, or raise DataError naming the first bad row (non-finite value, face or id out of range)."""
        if len(self) < min_points:
            raise DataError(explain("too few points", where=source, got=len(self), expected=f"at least {min_points}"))
        for name in ("xyz", "normals", "intensity"):
            column = getattr(self, name)
            if column is not None and not np.isfinite(column).all():
                bad = ~np.isfinite(column.reshape(len(self), -1)).all(axis=1)
                first = int(np.flatnonzero(bad)[0])
                raise DataError(explain(f"{int(bad.sum())} rows of {name!r} are not finite", where=f"{source}:row {first}",
                                        got=column[first].tolist(), expected="finite numbers",
                                        do=f"Repair the file, or leave those points out: cloud[np.isfinite(cloud.{name})"
                                           f"{'' if column.ndim == 1 else '.all(1)'}]."))
        if not np.isfinite(self.origin).all():
            raise DataError(explain("the origin is not finite", where=source, got=self.origin.tolist()))
        if self.faces is not None and self.faces.size and (self.faces.min() < 0 or self.faces.max() >= len(self)):
            bad_face = int(np.flatnonzero(((self.faces < 0) | (self.faces >= len(self))).any(axis=1))[0])
            raise DataError(explain("a face names a vertex that does not exist", where=f"{source}:face {bad_face}",
                                    got=self.faces[bad_face].tolist(), expected=f"rows in [0, {len(self)})"))
        if self.superpoints is not None and len(self) and self.superpoints.min() < 0:
            row = int(np.argmin(self.superpoints))
            raise DataError(explain("superpoint ids must be dense and not negative", where=f"{source}:row {row}",
                                    got=int(self.superpoints[row]), expected="ids in [0, S)"))
        return self


def _convert(name: str, column: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """Convert a column to its dtype, or raise DataError where that would change a value (colours in [0, 1], label 1.5)."""
    if issubclass(dtype, np.integer) and not np.can_cast(column.dtype, dtype) and column.size:
        limits = np.iinfo(dtype)
        with np.errstate(invalid="ignore"):
            bad = ~((column >= limits.min) & (column <= limits.max))
            if np.issubdtype(column.dtype, np.floating):
                bad |= column != np.floor(column)
        if bad.any():
            row = int(np.flatnonzero(bad.reshape(len(column), -1).any(axis=1))[0]) if column.ndim else 0
            hint = "Colours are whole numbers from 0 to 255: scale them first." if name == "rgb" else None
            raise DataError(explain(f"column {name!r} holds values that are no {np.dtype(dtype).name}", where=f"row {row}",
                                    got=np.atleast_1d(column)[row].tolist(), do=hint))
    return np.ascontiguousarray(column, dtype=dtype)
