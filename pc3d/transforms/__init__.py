"""Pure functions on scans: augmentation, point features, voxels, crops."""

from pc3d.transforms.augment import elastic_distortion, random_crop, random_linear
from pc3d.transforms.columns import column_mean, column_range
from pc3d.transforms.voxelize import point_features, spatial_shape, voxelize

__all__ = ["column_mean", "column_range", "elastic_distortion", "point_features", "random_crop", "random_linear",
           "spatial_shape", "voxelize"]
