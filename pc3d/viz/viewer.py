"""Look at a result: an Open3D window, or a picture where there is no display."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import BackendError, explain, require_package
from pc3d.io import read, read_result
from pc3d.structures import Instances, PointCloud
from pc3d.viz.panels import ColorBy, draw_panels, make_layers
from pc3d.viz.png import write_png
from pc3d.viz.render import own_colors

HELP = """keys: 1 scan   2 instances   3 classes   4 truth   H this help   Q quit
mouse: drag turns, wheel zooms, ctrl + drag moves"""


def view(result: str | Path, png: str | Path | None = None, *, color_by: ColorBy = "instances") -> Path | None:
    """Open a window on a result folder or a scan file, or write panels to ``png`` without any display and return its path.

    Raises FileError for what is neither, BackendError when there is no Open3D or no display to open a window on.
    """
    cloud, instances = read_result(result) if Path(result).is_dir() else (read(result), None)
    if png is not None:
        return write_png(png, draw_panels(cloud, instances, color_by=color_by))
    show(cloud, instances, title=str(result))
    return None


def show(cloud: PointCloud, instances: Instances | None = None, *, title: str = "pc3d") -> None:
    """Open a window and return when it is closed; keys change what is coloured. Raises BackendError without a display."""
    try:
        require_package("open3d", extra="viz", purpose="the viewer window")
    except BackendError as error:
        raise _no_window(str(error)) from error
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise _no_window("no display is set")
    import open3d as o3d

    paints = paint_modes(cloud, instances)
    geometry = _geometry(cloud)
    window = o3d.visualization.VisualizerWithKeyCallback()
    if not window.create_window(window_name=title, width=1280, height=800):
        raise _no_window("Open3D could not open a window")
    for key, colors in paints.items():
        window.register_key_callback(ord(key), _recolor(geometry, colors))
    window.register_key_callback(ord("H"), _print_help)
    _recolor(geometry, paints["2" if "2" in paints else "1"])(window)
    window.add_geometry(geometry)
    window.get_render_option().mesh_show_back_face = False  # look into the room through its near walls
    print(HELP)
    window.run()
    window.destroy_window()


def paint_modes(cloud: PointCloud, instances: Instances | None) -> dict[str, NDArray[np.uint8]]:
    """Return the colours (N, 3) of each key: 1 scan, 2 instances, 3 classes, 4 truth; those without data are left out."""
    paints = {"1": own_colors(cloud)}
    by_instance = {layer.title: layer for layer in make_layers(cloud, instances, color_by="instances")}
    by_class = {layer.title: layer for layer in make_layers(cloud, instances, color_by="classes")}
    if "Prediction" in by_instance:
        paints["2"] = by_instance["Prediction"].point_colors
        paints["3"] = by_class["Prediction"].point_colors
    if "Truth" in by_instance:
        paints["4"] = by_instance["Truth"].point_colors
    return paints


def _geometry(cloud: PointCloud) -> Any:
    import open3d as o3d

    xyz = o3d.utility.Vector3dVector(cloud.xyz.astype(np.float64))
    if cloud.faces is not None and len(cloud.faces):
        mesh = o3d.geometry.TriangleMesh(xyz, o3d.utility.Vector3iVector(cloud.faces.astype(np.int32)))
        mesh.compute_vertex_normals()
        return mesh
    points = o3d.geometry.PointCloud(xyz)
    if cloud.normals is not None:
        points.normals = o3d.utility.Vector3dVector(cloud.normals.astype(np.float64))
    return points


def _recolor(geometry: Any, colors: NDArray[np.uint8]) -> Any:
    def recolor(window: Any) -> bool:
        import open3d as o3d

        column = "vertex_colors" if hasattr(geometry, "vertex_colors") else "colors"
        setattr(geometry, column, o3d.utility.Vector3dVector(colors / 255.0))
        return bool(window.update_geometry(geometry))

    return recolor


def _print_help(window: Any) -> bool:
    print(HELP)
    return False


def _no_window(reason: str) -> BackendError:
    return BackendError(explain(f"the viewer has no window to draw in: {reason}",
                                do="Write a picture instead, which needs no display: pc3d view FOLDER --png OUT.png"))
