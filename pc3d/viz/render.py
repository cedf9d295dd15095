"""Pictures of scans without a graphics card: a z-buffer, a lamp, and darker creases.

One looks into the room from above: the ceiling, and walls seen from behind, are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pc3d.errors import DataError, explain
from pc3d.structures import PointCloud
from pc3d.structures.palette import NEUTRAL
from pc3d.superpoints import mesh_normals
from pc3d.viz.cutaway import indoor_normals, open_to
from pc3d.viz.projection import View, floor_plan_angle, room_view, typical_points
from pc3d.viz.raster import Surface, see_points, see_triangles

#: Behind everything.
BACKGROUND = (250, 251, 253)

_LAMP = np.array([-0.32, 0.38, -0.87])  # towards the lamp in camera axes: over the viewer's left shoulder


def draw_scan(cloud: PointCloud, colors: NDArray[np.uint8] | None = None, *, view: View | None = None,
              groups: NDArray[np.integer] | None = None, width: int = 640, supersample: int = 2,
              cutaway: bool = True) -> NDArray[np.uint8]:
    """Draw a scan, as a mesh where it has faces and as points where not; returns (H, W, 3) uint8.

    ``colors`` (N, 3) replace the scan's own; ``groups`` (N,) ids get an outline where they change, -1 has none;
    ``cutaway`` leaves out the ceiling and surfaces seen from behind, when the scan has normals to tell.
    """
    if colors is not None and (colors.shape != cloud.xyz.shape or colors.dtype != np.uint8):
        raise DataError(explain("colours do not fit the points", got=f"{colors.dtype} {colors.shape}",
                                expected=f"uint8 {cloud.xyz.shape}"))
    view = view or best_view(cloud, width=width)
    surface, normals = look(cloud, view.scaled(supersample), cutaway=cutaway)
    return paint(surface, own_colors(cloud) if colors is None else colors, normals, view=view, groups=groups,
                 supersample=supersample)


def best_view(cloud: PointCloud, *, width: int = 640, height: int | None = None) -> View:
    """Return the bird's-eye view that, of eight around the room, shows most of what stands in it."""
    sample = _thin(cloud)
    turn = floor_plan_angle(typical_points(sample.xyz))
    floor = float(np.quantile(sample.xyz[:, 2], 0.02)) + 0.15 if len(sample) else 0.0
    views = [room_view(sample.xyz, width=160, azimuth_deg=float(np.degrees(turn)) + quarter + side)
             for quarter in (90, 270, 0, 180) for side in (28, -28)]
    shown = []
    for rank, view in enumerate(views):
        seen = np.unique(look(sample, view)[0].nearest_rows)
        shown.append((sample.xyz[seen, 2] > floor).sum() * (1.0 if rank < 4 else 0.85))  # a wide picture is worth more
    azimuth = views[int(np.argmax(shown))].axes[2]
    return room_view(cloud.xyz, width=width, height=height, azimuth_deg=float(np.degrees(np.arctan2(azimuth[1], azimuth[0]))))


def look(cloud: PointCloud, view: View, *, cutaway: bool = True) -> tuple[Surface, NDArray[np.float32]]:
    """Find what is seen from a view; returns it with the normals (N, 3) it is to be lit by."""
    finite = np.asarray(np.isfinite(cloud.xyz).all(axis=1))
    if cloud.faces is not None and len(cloud.faces):
        faces = cloud.faces[finite[cloud.faces].all(axis=1)]
        normals = mesh_normals(np.nan_to_num(cloud.xyz), faces) if cloud.normals is None else cloud.normals
        if cutaway:
            faces = faces[open_to(view, cloud.xyz[faces].mean(axis=1), normals[faces].mean(axis=1), cloud.xyz[finite])]
        surface = see_triangles(view, cloud.xyz, faces)
        if surface is not None:
            return surface, normals
    normals = np.zeros_like(cloud.xyz)
    normals[finite] = indoor_normals(cloud.xyz[finite], None if cloud.normals is None else cloud.normals[finite], view.eye)
    if cutaway:
        finite = finite & open_to(view, cloud.xyz, normals, cloud.xyz[finite])
    return see_points(view, cloud.xyz, finite, _spacing(cloud.xyz[finite])), normals


def paint(surface: Surface, colors: NDArray[np.uint8], normals: NDArray[np.float32], *, view: View,
          groups: NDArray[np.integer] | None = None, supersample: int = 1,
          background: tuple[int, int, int] = BACKGROUND) -> NDArray[np.uint8]:
    """Colour what is seen, shade it, draw outlines, and average supersampled pixels; returns (H, W, 3) uint8."""
    if groups is None:
        color = surface.mix(colors.astype(np.float32))
    else:  # labels must not bleed into each other
        color = colors[surface.nearest_rows].astype(np.float32)
    color *= (_creases(surface, reach=supersample) * _light(surface, normals, view))[:, None]
    if groups is not None:
        color[_outline(surface, groups[surface.nearest_rows])] *= 0.45
    image = np.empty((surface.height * surface.width, 3), dtype=np.float32)
    image[:] = background
    image[surface.pixels] = np.minimum(color, 255.0)
    grid = image.reshape(surface.height, surface.width, 3)
    parts = [grid[y::supersample, x::supersample] for y in range(supersample) for x in range(supersample)]
    return np.round(sum(parts[1:], parts[0]) / len(parts)).astype(np.uint8)


def own_colors(cloud: PointCloud) -> NDArray[np.uint8]:
    """Return the scan's colours (N, 3): its rgb, else its intensity in grey, else one neutral grey."""
    if cloud.rgb is not None:
        return cloud.rgb
    if cloud.intensity is None or not np.isfinite(cloud.intensity).any():
        return np.tile(np.array(NEUTRAL, dtype=np.uint8), (len(cloud), 1))
    low, high = np.nanquantile(cloud.intensity, [0.02, 0.98])
    grey = np.clip((np.nan_to_num(cloud.intensity) - low) / max(float(high - low), 1e-9), 0.0, 1.0)
    return np.repeat((60 + 180 * grey).astype(np.uint8)[:, None], 3, axis=1)


def _thin(cloud: PointCloud, count: int = 15_000) -> PointCloud:
    """Return about ``count`` finite points, with mesh normals where there is a mesh, to choose views by."""
    rows = np.flatnonzero(np.isfinite(cloud.xyz).all(axis=1))
    normals = cloud.normals
    if normals is None and cloud.faces is not None and len(cloud.faces):
        normals = mesh_normals(np.nan_to_num(cloud.xyz), cloud.faces)
    rows = rows[:: len(rows) // count + 1]
    return PointCloud(xyz=cloud.xyz[rows], normals=None if normals is None else normals[rows])


def _spacing(xyz: NDArray[np.floating]) -> float:
    """Typical distance (metres) of a point to its fourth neighbour."""
    if len(xyz) < 5:
        return 0.05
    probe = xyz[:: len(xyz) // 1000 + 1]
    distances = cKDTree(xyz).query(probe, k=5)[0][:, -1]
    return float(np.median(distances))


def _light(surface: Surface, normals: NDArray[np.float32], view: View) -> NDArray[np.float32]:
    """Diffuse light of a lamp over the viewer's shoulder, plus light from all sides; normals shine on both sides."""
    normal = surface.mix(normals) @ view.axes.T.astype(np.float32)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    normal *= np.where(normal[:, 2:] > 0, -1.0, 1.0)
    lamp = (_LAMP / np.linalg.norm(_LAMP)).astype(np.float32)
    return 0.66 + 0.42 * np.maximum(normal @ lamp, 0.0)


def _creases(surface: Surface, reach: int) -> NDArray[np.float32]:
    """Darken pixels that lie behind the mean of two opposite neighbours, which is 0 on a plane however steep.

    After eye-dome lighting (Boucheny 2009), at three distances: fine relief, edges, and soft shadow in corners.
    """
    depth = np.full((surface.height, surface.width), np.inf, dtype=np.float32)
    depth.ravel()[surface.pixels] = surface.depth
    shade = np.zeros_like(depth)
    for step, full, strength in ((reach, 0.05, 0.30), (4 * reach, 0.2, 0.25), (12 * reach, 0.6, 0.30)):
        padded = np.pad(depth, step, constant_values=np.inf)
        for dy, dx in ((0, step), (step, 0), (step, step), (step, -step)):
            one = padded[step + dy:, step + dx:][:surface.height, :surface.width]
            other = padded[step - dy:, step - dx:][:surface.height, :surface.width]
            with np.errstate(invalid="ignore"):
                behind = depth - 0.5 * (one + other)
            shade += strength / 4 * np.clip(np.nan_to_num(behind, nan=0.0, posinf=0.0, neginf=0.0) / full, 0.0, 1.0)
    return np.exp(-shade.ravel()[surface.pixels])


def _outline(surface: Surface, groups: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Mark the covered pixels (P,) where the group changes to the right or below."""
    image = np.full((surface.height, surface.width), -1, dtype=np.int64)
    image.ravel()[surface.pixels] = groups
    edge = np.zeros(image.shape, dtype=bool)
    across, down = image[:, 1:] != image[:, :-1], image[1:] != image[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge.ravel()[surface.pixels]
