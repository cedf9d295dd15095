"""Native ops with their torch references: what each means is in its own file."""

from pc3d.ops.asam_pool import WeightNets, asam_pool
from pc3d.ops.column_stats import column_stats
from pc3d.ops.elastic import elastic
from pc3d.ops.felzenszwalb import felzenszwalb
from pc3d.ops.frame_rows import frame_rows
from pc3d.ops.grid_links import grid_links
from pc3d.ops.grid_parts import grid_parts
from pc3d.ops.grow_regions import grow_regions
from pc3d.ops.instance_rows import instance_rows
from pc3d.ops.instance_sums import instance_sums
from pc3d.ops.knn import knn
from pc3d.ops.lift_vote import Counted, FrameView, lift_vote
from pc3d.ops.map_points import map_points
from pc3d.ops.mask_boxes import mask_boxes
from pc3d.ops.mask_clusters import mask_clusters
from pc3d.ops.mask_testimony import SparseRows, Testimony, mask_testimony
from pc3d.ops.match_instances import Matches, match_instances
from pc3d.ops.merge_views import merge_views
from pc3d.ops.mesh_graph import mesh_graph
from pc3d.ops.normals import estimate_normals, vertex_normals
from pc3d.ops.orient_normals import orient_normals
from pc3d.ops.piece_sums import piece_sums
from pc3d.ops.point_features import point_features
from pc3d.ops.relation_bias import relation_bias
from pc3d.ops.relative import relative_add, relative_read
from pc3d.ops.relative_attention import AttentionSide, PositionTables, relative_attention
from pc3d.ops.row_dots import row_dots
from pc3d.ops.scan_layout import ScanLayout, scan_layout
from pc3d.ops.segment import Groups, group_segments, segment_expand, segment_pool, segment_softmax
from pc3d.ops.shared_counts import shared_counts
from pc3d.ops.unit_normals import unit_normals
from pc3d.ops.voxel_ids import voxel_ids

__all__ = ["AttentionSide", "Counted", "FrameView", "Groups", "Matches", "PositionTables", "ScanLayout", "SparseRows",
           "Testimony", "WeightNets", "asam_pool", "column_stats", "elastic", "estimate_normals", "felzenszwalb", "frame_rows",
           "grid_links", "grid_parts", "group_segments", "grow_regions", "instance_rows", "instance_sums", "knn", "lift_vote",
           "map_points", "mask_boxes", "mask_clusters", "mask_testimony", "match_instances", "merge_views", "mesh_graph",
           "orient_normals", "piece_sums", "point_features", "relation_bias", "relative_add", "relative_attention",
           "relative_read", "row_dots", "scan_layout", "segment_expand", "segment_pool", "segment_softmax", "shared_counts",
           "unit_normals", "vertex_normals", "voxel_ids"]
