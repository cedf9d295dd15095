"""Superpoints: small connected patches of a scan that the network treats as one. numpy in, numpy out."""

from __future__ import annotations

from pc3d.structures import PointCloud
from pc3d.superpoints.cloud import cloud_normals, normals_and_superpoints, segment_cloud
from pc3d.superpoints.mesh import mesh_normals, segment_mesh

__all__ = ["cloud_normals", "compute_superpoints", "mesh_normals", "segment_cloud", "segment_mesh"]


def compute_superpoints(cloud: PointCloud) -> PointCloud:
    """Return the cloud with superpoints, and with normals where it had none; by the mesh when there are faces.

    Superpoints that the cloud already has are replaced. Raises DataError.
    """
    if cloud.faces is not None and len(cloud.faces):
        normals = mesh_normals(cloud.xyz, cloud.faces) if cloud.normals is None else cloud.normals
        return cloud.replace(normals=normals, superpoints=segment_mesh(cloud.xyz, cloud.faces))
    if cloud.normals is None:
        normals, superpoints = normals_and_superpoints(cloud.xyz, cloud.rgb)
        return cloud.replace(normals=normals, superpoints=superpoints)
    return cloud.replace(superpoints=segment_cloud(cloud.xyz, rgb=cloud.rgb, normals=cloud.normals))
