"""Exact nearest neighbours within one cloud."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.ops._checks import check_finite, check_rows
from pc3d.ops._library import define

MAX_NEIGHBORS = 64
_SPARE = 8  # extra neighbours asked of scipy's tree, so that ties at the k-th distance are seen


def knn(xyz: Tensor, k: int) -> Tensor:
    """Find the k nearest other points of every point, by rising (distance, index); duplicates count as neighbours.

    xyz (N, 3) float32 finite, 1 <= k <= 64. Returns (N, k) int64; where fewer than k others exist, the row is filled
    with the point itself. Raises DataError.
    """
    check_rows("knn", "xyz", xyz, 3, torch.float32)
    check_finite("knn", "xyz", xyz)
    if not 1 <= k <= MAX_NEIGHBORS:
        raise DataError(explain("k out of range", where="knn", got=k, expected=f"1 <= k <= {MAX_NEIGHBORS}"))
    return _op(xyz, k)


def _reference(xyz: Tensor, k: int) -> Tensor:
    count, host = len(xyz), xyz.cpu()
    neighbors = torch.arange(count)[:, None].repeat(1, k)
    found = min(k, count - 1)
    if found < 1:
        return neighbors.to(xyz.device)
    candidates = _candidates(host, min(count, found + 1 + _SPARE))
    distance = _square_distance(host[:, None], host[candidates])
    neighbors[:, :found] = _nearest(distance, candidates, torch.arange(count), found)
    complete = candidates.shape[1] == count
    reach, last = distance.max(1).values, _square_distance(host, host[neighbors[:, found - 1]])
    for row in ([] if complete else torch.nonzero(~(reach > last * (1 + 1e-5))).flatten()):
        every = _square_distance(host[row][None, None], host[None])
        neighbors[row, :found] = _nearest(every, torch.arange(count)[None], row[None], found)[0]
    return neighbors.to(xyz.device)


def _candidates(xyz: Tensor, count: int) -> Tensor:
    from scipy.spatial import cKDTree

    points = xyz.double().numpy()
    found = cKDTree(points).query(points, k=count)[1]
    return torch.from_numpy(found.reshape(len(points), count)).sort(1).values


def _square_distance(a: Tensor, b: Tensor) -> Tensor:
    step = b - a
    return (step[..., 0] * step[..., 0] + step[..., 1] * step[..., 1]) + step[..., 2] * step[..., 2]


def _nearest(distance: Tensor, candidates: Tensor, rows: Tensor, k: int) -> Tensor:
    """The k candidates of least (distance, index) that are not the row itself; candidates come by rising index."""
    distance = torch.where(candidates == rows[:, None], torch.nan, distance)  # NaN sorts last, after infinity
    return candidates.gather(1, distance.sort(dim=1, stable=True).indices[:, :k])


def _fake(xyz: Tensor, k: int) -> Tensor:
    return xyz.new_empty(len(xyz), k, dtype=torch.int64)


_op = define("knn(Tensor xyz, int k) -> Tensor", reference=_reference, fake=_fake)
