"""Pure functions on scans: augmentation, point features, voxels, crops."""

from pc3d.transforms.augment import elastic_distortion, random_crop, random_linear
from pc3d.transforms.storeys import random_window, wall_to_wall
from pc3d.transforms.tensors import as_tensor
from pc3d.transforms.tiles import cut_tiles
from pc3d.transforms.views import view
from pc3d.transforms.voxelize import point_features, spatial_shape, voxelize

__all__ = ["as_tensor", "cut_tiles", "elastic_distortion", "point_features", "random_crop", "random_linear", "random_window",
           "spatial_shape", "view", "voxelize", "wall_to_wall"]
