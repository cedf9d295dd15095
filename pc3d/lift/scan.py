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
from pc3d.ops import scan_layout
from pc3d.structures import Camera, PointCloud
from pc3d.superpoints.links import split_at_gaps, superpoint_links

_BLOCK = 128  # points; smaller blocks are culled better, larger ones keep vector units full
_PIECE = 8     # points; with 16, true masks have 1 to 2 points less AP on rooms of the split ``test``
_Z_WIDTH, _Z_LEVELS = 320, 6


@dataclass(frozen=True, eq=False)
class LiftScan:
    """N points in blocks, superpoint by superpoint, along a Morton curve; made once for all frames."""

    xyz: Tensor                     # (3, N) float32, relative to origin
    starts: Tensor                  # (B + 1,) int64 rows of each block
    owners: Tensor                  # (B,) int32 superpoint of each block
    boxes: Tensor                   # (6, B) float32
    sizes: NDArray[np.int64]        # (S,) points of each superpoint
    origin: NDArray[np.float64]     # (3,)
    point_to_superpoint: NDArray[np.int64]  # (N,) in the order of the file
    pieces: Pieces                  # that superpoints may be cut into
    piece_of_point: Tensor          # (N,) int32

    @classmethod
    def from_cloud(cls, cloud: PointCloud) -> LiftScan:
        """Lay out a cloud that has superpoints; raises DataError for one without."""
        if cloud.superpoints is None or not len(cloud):
            raise DataError(explain("lifting needs a scan with superpoints", got=repr(cloud),
                                    do="pc3d.superpoints.compute_superpoints makes them."))
        ids = cloud.superpoints
        laid = scan_layout(torch.from_numpy(cloud.xyz), torch.from_numpy(ids), _BLOCK, _PIECE)
        sizes, owners, starts = (one.numpy() for one in (laid.sizes, laid.piece_owners, laid.piece_starts))
        pieces = Pieces(owners, np.diff(starts), laid.order.numpy()[starts[:-1]], laid.point_to_piece.numpy(), len(sizes))
        return cls(laid.points, laid.block_starts, laid.block_owners.int(), laid.boxes, sizes, cloud.origin, ids, pieces,
                   laid.piece_of_point)

    @cached_property
    def spacing(self) -> float:
        """Median distance between neighbouring points, metres."""
        from scipy.spatial import cKDTree

        points = self.xyz.numpy().T
        some = points[np.random.default_rng(0).permutation(len(points))[:500]]
        return float(np.median(cKDTree(points).query(some, k=2)[0][:, 1]))

    def links(self, distance: float) -> csr_matrix:
        """Superpoints (S, S) that come near each other: surely within ``distance / 2``, never beyond 1.8 ``distance``."""
        if distance not in self._links:
            self._links[distance] = superpoint_links(self.xyz.numpy().T, self.owner_of_point, distance)
        return self._links[distance]

    def split_at_gaps(self, sets: csr_matrix, distance: float) -> tuple[NDArray[np.int64], csr_matrix]:
        """Cut sets of superpoints (G, S) where they do not hang together by ``links``: ``superpoints.links.split_at_gaps``."""
        return split_at_gaps(sets, self.xyz.numpy().T, self.owner_of_point, distance)

    @cached_property
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
