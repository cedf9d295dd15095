"""Superpoints: small connected patches of a scan that the network treats as one. numpy in, numpy out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.structures import PointCloud
from pc3d.structures.ids import dense_ids
from pc3d.superpoints._arrays import unit_rows
from pc3d.superpoints.cloud import cloud_normals, normals_and_superpoints, segment_cloud
from pc3d.superpoints.mesh import mesh_normals, segment_mesh

__all__ = ["DEFAULT", "SuperpointSettings", "cloud_normals", "complete", "compute_superpoints", "mesh_normals", "segment_cloud",
           "segment_mesh"]


@dataclass(frozen=True)
class SuperpointSettings:
    """How scans are partitioned; see segment_mesh and segment_cloud. ``exact`` is for meshes."""

    k_threshold: float = 0.01
    min_size: int = 20
    exact: bool = False


DEFAULT = SuperpointSettings()


def complete(cloud: PointCloud, settings: SuperpointSettings = DEFAULT) -> PointCloud:
    """Return the cloud with normals and superpoints: what it brings is kept, what is missing is computed.

    As files may have them, ids of superpoints with gaps are numbered anew in their order, and normals of another length than 1
    get it.
    """
    if cloud.normals is not None and not _are_unit(cloud.normals):
        cloud = cloud.replace(normals=unit_rows(cloud.normals, len(cloud), "complete"))
    if cloud.superpoints is not None and (ids := dense_ids(cloud.superpoints)[1]) is not cloud.superpoints:
        cloud = cloud.replace(superpoints=ids)
    if cloud.normals is not None and cloud.superpoints is not None:
        return cloud
    computed = compute_superpoints(cloud, settings)
    return computed if cloud.superpoints is None else computed.replace(superpoints=cloud.superpoints)


def compute_superpoints(cloud: PointCloud, settings: SuperpointSettings = DEFAULT) -> PointCloud:
    """Return the cloud with superpoints, and with normals where it had none; by the mesh when there are faces.

    Superpoints that the cloud already has are replaced. Faces that share no vertices are welded where their corners
    coincide; faces that leave most points out are not used. Raises DataError.
    """
    if cloud.faces is not None and len(cloud.faces):
        normals = mesh_normals(cloud.xyz, cloud.faces) if cloud.normals is None else cloud.normals
        return cloud.replace(normals=normals, superpoints=_by_mesh(cloud, cloud.faces, normals, settings))
    if cloud.normals is None:
        normals, superpoints = normals_and_superpoints(cloud.xyz, cloud.rgb, settings.k_threshold, settings.min_size)
        return cloud.replace(normals=normals, superpoints=superpoints)
    return cloud.replace(superpoints=_by_points(cloud, cloud.normals, settings))


def _are_unit(normals: NDArray[np.float32]) -> bool:
    """Whether rows have length 1, to a hundredth, or none."""
    square = np.einsum("ij,ij->i", normals, normals)
    return bool(((np.abs(square - 1) < 0.02) | (square == 0)).all())


def _by_mesh(cloud: PointCloud, faces: NDArray[np.int64], normals: NDArray[np.float32],
             settings: SuperpointSettings) -> NDArray[np.int64]:
    superpoints = _segment_mesh(cloud.xyz, faces, settings)
    if _is_split_finely(superpoints):
        corners, corner_of_point = np.unique(cloud.xyz, axis=0, return_inverse=True)
        corner_of_point = corner_of_point.reshape(-1)
        superpoints = _segment_mesh(corners, corner_of_point[faces], settings)[corner_of_point]
    return _by_points(cloud, normals, settings) if _is_split_finely(superpoints) else superpoints


def _segment_mesh(xyz: NDArray[np.float32], faces: NDArray[np.int64], settings: SuperpointSettings) -> NDArray[np.int64]:
    return segment_mesh(xyz, faces, k_threshold=settings.k_threshold, min_size=settings.min_size, exact=settings.exact)


def _by_points(cloud: PointCloud, normals: NDArray[np.float32], settings: SuperpointSettings) -> NDArray[np.int64]:
    return segment_cloud(cloud.xyz, rgb=cloud.rgb, normals=normals, k_threshold=settings.k_threshold,
                         min_size=settings.min_size)


def _is_split_finely(superpoints: NDArray[np.int64]) -> bool:
    """Whether superpoints are so small, against the smallest size of 20, that the mesh cannot hang together."""
    return len(superpoints) > 0 and len(superpoints) < 10 * (int(superpoints.max()) + 1)
