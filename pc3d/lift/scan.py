"""A scan laid out for projection: points of a superpoint side by side, in small blocks that a camera can rule out at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from pc3d.errors import DataError, explain
from pc3d.lift.pieces import Pieces
from pc3d.lift.view import pack_pose
from pc3d.structures import Camera, PointCloud
from pc3d.superpoints.links import superpoint_links

_MORTON_BITS = 30
_BLOCK = 128  # points; smaller blocks are culled better, larger ones keep vector units full
_PIECE = 8     # points; with 16, true masks have 1 to 2 points less AP on rooms of the split ``test``
_Z_WIDTH, _Z_LEVELS = 320, 6


@dataclass(frozen=True, eq=False)
class LiftScan:
    """N points in blocks, superpoint by superpoint, along a Morton curve; made once for all frames."""

    xyz: Tensor                     # (3, N) float32, relative to origin
    starts: Tensor                  # (B + 1,) int64 rows of each block
    owners: Tensor                  # (B,) int32 superpoint of each block
    spheres: Tensor                 # (4, B) float32
    sizes: NDArray[np.int64]        # (S,) points of each superpoint
    origin: NDArray[np.float64]     # (3,)
    point_to_superpoint: NDArray[np.int64]  # (N,) in the order of the file
    pieces: Pieces                  # that superpoints may be cut into

    @classmethod
    def from_cloud(cls, cloud: PointCloud) -> LiftScan:
        """Lay out a cloud that has superpoints; raises DataError for one without."""
        if cloud.superpoints is None or not len(cloud):
            raise DataError(explain("lifting needs a scan with superpoints", got=repr(cloud),
                                    do="pc3d.superpoints.compute_superpoints makes them."))
        ids, xyz = cloud.superpoints, np.ascontiguousarray(cloud.xyz.T)
        sizes = np.bincount(ids)
        code = _morton(xyz)
        first = np.full(len(sizes), np.iinfo(np.int64).max)
        np.minimum.at(first, ids, code)               # a superpoint stands where its first point does
        rank = np.empty(len(sizes), np.int64)
        rank[np.argsort(first, kind="stable")] = np.arange(len(sizes))
        order = _order(rank[ids] << _MORTON_BITS | code)
        starts, owners = _blocks(ids[order], _BLOCK)
        points = np.take(xyz, order, axis=1)
        return cls(torch.from_numpy(points), torch.from_numpy(starts), torch.from_numpy(owners.astype(np.int32)),
                   torch.from_numpy(_spheres(points, starts)), sizes, cloud.origin, ids, _pieces(ids, order, len(sizes)))

    @cached_property
    def spacing(self) -> float:
        """Median distance between neighbouring points, metres."""
        from scipy.spatial import cKDTree

        points = self.xyz.numpy().T
        some = points[np.random.default_rng(0).permutation(len(points))[:500]]
        return float(np.median(cKDTree(points).query(some, k=2)[0][:, 1]))

    @cached_property
    def piece_of_point(self) -> Tensor:
        """Piece (N,) int32 of the points in the order of ``xyz``."""
        sizes = torch.from_numpy(self.pieces.sizes)
        return torch.repeat_interleave(torch.arange(len(sizes), dtype=torch.int32), sizes)

    def links(self, distance: float) -> csr_matrix:
        """Superpoints (S, S) that come near each other: surely within ``distance / 2``, never beyond 1.8 ``distance``."""
        if distance not in self._links:
            self._links[distance] = superpoint_links(self.xyz.numpy().T, self.owner_of_point, distance)
        return self._links[distance]

    @property
    def owner_of_point(self) -> NDArray[np.int64]:
        """Superpoint (N,) of the points in the order of ``xyz``."""
        return np.repeat(self.owners.numpy().astype(np.int64), np.diff(self.starts.numpy()))

    @cached_property
    def _links(self) -> dict[float, csr_matrix]:
        return {}

    def render_depth(self, camera: Camera, T_world_camera: NDArray[np.float64]) -> tuple[Camera, Tensor]:
        """Depth of the scan itself as the camera would see it, for frames without depth, and the camera it is of.

        Every point goes into the level of an image pyramid whose pixels are as large as the gap to the next point, so
        that near surfaces close; the nearest level wins.
        """
        width = min(camera.width, _Z_WIDTH)
        small = camera.resized(width, max(1, round(camera.height * width / camera.width)))
        pose = pack_pose(T_world_camera, self.origin)
        cam = (pose[:, :3] @ self.xyz + pose[:, 3:]).double().numpy()
        pixel, z = small.project(cam.T), cam[2]
        inside = (pixel > -0.5).all(axis=1) & (pixel < [small.width - 0.5, small.height - 0.5]).all(axis=1) & (z > 0.05)
        pixel, z = np.rint(pixel[inside]).astype(np.int64), z[inside]
        footprint = 1.5 * small.fx * self.spacing / z
        level = np.clip(np.ceil(np.log2(np.maximum(footprint, 1))), 0, _Z_LEVELS - 1).astype(np.int64)
        return small, torch.from_numpy(_splat(pixel, z, level, small.height, small.width))


def _splat(pixel: NDArray[np.int64], z: NDArray[np.float64], level: NDArray[np.int64], height: int,
           width: int) -> NDArray[np.float32]:
    """Nearest z of each pixel over all levels (H, W), 0 for none."""
    nearest = np.full((height, width), np.inf, np.float32)
    for k in range(_Z_LEVELS):
        here, side = level == k, 2**k
        rows, columns = -(-height // side), -(-width // side)
        coarse = np.full(rows * columns, np.inf, np.float32)
        np.minimum.at(coarse, pixel[here, 1] // side * columns + pixel[here, 0] // side, z[here].astype(np.float32))
        fine = coarse.reshape(rows, columns).repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
        np.minimum(nearest, fine, out=nearest)
    return np.where(np.isfinite(nearest), nearest, np.float32(0))


def _morton(xyz: NDArray[np.float32]) -> NDArray[np.int64]:
    """Place of each point of (3, N) along a Z-order curve of 1024^3 cells."""
    low = xyz.min(axis=1, keepdims=True)
    x, y, z = ((xyz - low) * (1023 / max(float((xyz.max(axis=1, keepdims=True) - low).max()), 1e-9))).astype(np.int16)
    apart = np.arange(1024)
    for shift, mask in ((16, 0x30000FF), (8, 0x300F00F), (4, 0x30C30C3), (2, 0x9249249)):
        apart = (apart | apart << shift) & mask
    return apart[x] | apart[y] << 1 | apart[z] << 2


def _order(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows by their keys (N,), not negative, of equal ones the first first: digits of 16 bits need no comparing."""
    bits = int(keys.max()).bit_length()
    return np.lexsort([(keys >> shift & 0xFFFF).astype(np.uint16) for shift in range(0, max(bits, 1), 16)])


def _blocks(ids: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut rows into blocks of one superpoint and at most ``most`` points: starts (B + 1,) and superpoints (B,)."""
    cuts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))
    lengths = np.diff(cuts, append=len(ids))
    pieces = -(-lengths // most)
    part = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = np.repeat(cuts, pieces) + part * np.repeat(lengths, pieces) // np.repeat(pieces, pieces)
    return np.append(starts, len(ids)), np.repeat(ids[cuts], pieces)


def _pieces(ids: NDArray[np.int64], order: NDArray[np.int64], num_superpoints: int) -> Pieces:
    """Cut points of superpoints ``ids``, laid out in an order, into pieces: few points each, close together on the curve."""
    starts, owner = _blocks(ids[order], _PIECE)
    sizes = np.diff(starts)
    piece = np.empty(len(ids), np.int64)
    piece[order] = np.repeat(np.arange(len(owner)), sizes)
    return Pieces(owner, sizes, order[starts[:-1]], piece, num_superpoints)


def _spheres(points: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Centre of the bounding box and distance of the farthest point of each block (4, B)."""
    low, high = (ufunc.reduceat(points, starts[:-1], axis=1) for ufunc in (np.minimum, np.maximum))
    center = (low + high) / 2
    distance = np.linalg.norm(points - np.repeat(center, np.diff(starts), axis=1), axis=0)
    return np.concatenate([center, np.maximum.reduceat(distance, starts[:-1])[None]]).astype(np.float32)


