"""Pictures of scans and results: drawn in numpy, so they come out on any machine; Open3D only for the window."""

from pc3d.structures.palette import SCANNET_COLORS, class_colors, distinct_colors
from pc3d.viz.curves import draw_curves, draw_run
from pc3d.viz.lifting import draw_lifting
from pc3d.viz.panels import draw_panels
from pc3d.viz.png import encode_png, write_png
from pc3d.viz.projection import View, room_view
from pc3d.viz.render import best_view, draw_scan
from pc3d.viz.viewer import show, view

__all__ = ["SCANNET_COLORS", "View", "best_view", "class_colors", "distinct_colors", "draw_curves", "draw_lifting",
           "draw_panels", "draw_run", "draw_scan", "encode_png", "room_view", "show", "view", "write_png"]
