"""A z-buffer in numpy: which points or triangles are seen in which pixel.

Visibility is found once; the same surface can then be painted in many colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.viz.projection import View

_CELLS = 2_000_000  # pixels tested at a time: 16 MB a float64 array
_NEAR = 0.02        # metres
_PATIENCE = 150     # pictures' worth of pixels that triangles may ask to be tested before they count as a tangle

Fragments = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Surface:
    """What is seen: P covered pixels, each a weighted mean of K rows of the cloud (1 for points, 3 for triangles)."""

    width: int
    height: int
    pixels: NDArray[np.int64]     # (P,) row-major index, ascending
    depth: NDArray[np.float32]    # (P,) metres
    rows: NDArray[np.int64]       # (P, K)
    weights: NDArray[np.float32]  # (P, K), sum 1

    def mix(self, column: NDArray[np.floating]) -> NDArray[np.float32]:
        """Blend a column (N, C) of the cloud into (P, C)."""
        mixed = np.zeros((len(self.pixels), column.shape[1]), dtype=np.float32)
        for k in range(self.rows.shape[1]):
            mixed += self.weights[:, k, None] * column[self.rows[:, k]]
        return mixed

    @property
    def nearest_rows(self) -> NDArray[np.int64]:
        """Row of the cloud (P,) that counts most in each pixel."""
        if self.rows.shape[1] == 1:
            return self.rows[:, 0]
        return np.take_along_axis(self.rows, self.weights.argmax(axis=1)[:, None], axis=1)[:, 0]


def see_points(view: View, xyz: NDArray[np.floating], visible: NDArray[np.bool_], spacing: float) -> Surface:
    """Draw each visible point (of N) as a small bump as wide as the points are apart (``spacing``, metres)."""
    projected = view.project(xyz)
    rows = np.flatnonzero(visible & (projected[:, 2] > _NEAR))
    return _resolve(view, _point_fragments(view, projected, rows, spacing), corners=1)


def see_triangles(view: View, xyz: NDArray[np.floating], faces: NDArray[np.int64]) -> Surface | None:
    """Draw triangles (F, 3) with perspective-correct weights; both sides are seen.

    Returns None for a tangle: faces so large for their number that drawing them would take minutes and show nothing.
    """
    projected = view.project(xyz)
    kept = faces[(projected[:, 2][faces] > _NEAR).all(axis=1)]
    low, high = _pixel_boxes(view, projected[kept])
    if (high - low).astype(np.float64).prod(axis=1).sum() > _PATIENCE * view.width * view.height:
        return None
    return _resolve(view, _triangle_fragments(view, projected, kept, low, high), corners=3)


def _resolve(view: View, batches: Iterator[Fragments], corners: int) -> Surface:
    """Keep the nearest fragment of each pixel; at equal depth the later one."""
    count = view.width * view.height
    depth = np.full(count, np.inf, dtype=np.float32)
    rows = np.zeros((count, corners), dtype=np.int64)
    weights = np.zeros((count, corners), dtype=np.float32)
    for pixels, depths, fragment_rows, fragment_weights in batches:
        np.minimum.at(depth, pixels, depths)
        nearest = depths == depth[pixels]
        rows[pixels[nearest]] = fragment_rows[nearest]
        weights[pixels[nearest]] = fragment_weights[nearest]
    covered = np.flatnonzero(np.isfinite(depth))
    return Surface(view.width, view.height, covered, depth[covered], rows[covered], weights[covered])


def _point_fragments(view: View, projected: NDArray[np.float64], rows: NDArray[np.int64],
                     spacing: float) -> Iterator[Fragments]:
    scale = np.full(len(rows), view.scale) if view.orthographic else view.scale / projected[rows, 2]
    radius = np.clip(np.ceil(0.9 * spacing * scale), 1, 24).astype(np.int64) if len(rows) else np.zeros(0, dtype=np.int64)
    for size in np.unique(radius):
        members = rows[radius == size]
        dx, dy = np.meshgrid(np.arange(-size, size + 1), np.arange(-size, size + 1))
        disk = dx**2 + dy**2 <= size**2 + 0.5
        dx, dy = dx[disk], dy[disk]
        bump = (0.6 * spacing * (dx**2 + dy**2) / size**2).astype(np.float32)
        step = max(1, _CELLS // len(dx))
        for start in range(0, len(members), step):
            some = members[start:start + step]
            column = np.floor(projected[some, 0]).astype(np.int64)[:, None] + dx
            line = np.floor(projected[some, 1]).astype(np.int64)[:, None] + dy
            inside = (column >= 0) & (column < view.width) & (line >= 0) & (line < view.height)
            depth = projected[some, 2].astype(np.float32)[:, None] + bump
            owner = np.broadcast_to(some[:, None], inside.shape)[inside][:, None]
            yield (line * view.width + column)[inside], depth[inside], owner, np.ones(owner.shape, dtype=np.float32)


def _pixel_boxes(view: View, corners: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one past the last pixel (F, 2) whose centre a triangle (F, 3, 3) may cover."""
    limit = np.array([view.width, view.height])
    low = np.clip(np.ceil(corners[:, :, :2].min(axis=1) - 0.5), 0, limit).astype(np.int64)
    high = np.clip(np.floor(corners[:, :, :2].max(axis=1) - 0.5) + 1, 0, limit).astype(np.int64)
    return low, np.maximum(low, high)


def _triangle_fragments(view: View, projected: NDArray[np.float64], faces: NDArray[np.int64], low: NDArray[np.int64],
                        high: NDArray[np.int64]) -> Iterator[Fragments]:
    """Yield the pixels inside triangles, those of about one size together."""
    extent = (high - low).max(axis=1, initial=0)
    hit = (high > low).all(axis=1)
    size = 1
    while hit.any() and size < 2 * extent[hit].max():
        members = np.flatnonzero(hit & (extent <= size) & (extent > size // 2))
        step = max(1, _CELLS // size**2)
        for start in range(0, len(members), step):
            some = members[start:start + step]
            yield _fill(view, projected[faces[some]], faces[some], low[some], high[some], size)
        size *= 2


def _fill(view: View, corners: NDArray[np.float64], faces: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64],
          size: int) -> Fragments:
    """Test a size x size square of pixels for each triangle and return those inside."""
    offset = np.arange(size)
    x = low[:, :1] + offset                                                         # (F, size)
    y = low[:, 1:] + offset
    edges = [_edge(corners[:, (k + 1) % 3], corners[:, (k + 2) % 3], x, y) for k in range(3)]
    area = edges[0] + edges[1] + edges[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = [edge / area for edge in edges]                                    # (F, size, size), NaN where flat
    inside = (shares[0] >= 0) & (shares[1] >= 0) & (shares[2] >= 0)
    inside &= (x < high[:, :1])[:, None, :] & (y < high[:, 1:])[:, :, None]
    face, line, column = np.nonzero(inside)
    weights = np.stack([share[inside] for share in shares], axis=1)
    depth = corners[face, :, 2]
    if view.orthographic:
        seen = (weights * depth).sum(axis=1)
    else:
        weights = weights / depth
        seen = 1.0 / weights.sum(axis=1)
        weights = weights * seen[:, None]
    pixels = y[face, line] * view.width + x[face, column]
    return pixels, seen.astype(np.float32), faces[face], weights.astype(np.float32)


def _edge(a: NDArray[np.float64], b: NDArray[np.float64], x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Twice the signed area of (a, b, pixel centre) on each square: (F, size rows, size columns)."""
    along_x = (y + 0.5 - a[:, 1:2]) * (b[:, :1] - a[:, :1])
    along_y = (x + 0.5 - a[:, :1]) * (b[:, 1:2] - a[:, 1:2])
    return along_x[:, :, None] - along_y[:, None, :]
