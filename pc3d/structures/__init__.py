"""The structures everything in pc3d passes around: scans, batches, instances, cameras and frames."""

from pc3d.structures.camera import Camera, Frame
from pc3d.structures.instances import Instances
from pc3d.structures.lens import Lens
from pc3d.structures.point_batch import PointBatch, Targets
from pc3d.structures.point_cloud import PointCloud
from pc3d.structures.query_output import LayerOutput, Relation3DOutput

__all__ = ["Camera", "Frame", "Instances", "LayerOutput", "Lens", "PointBatch", "PointCloud", "Relation3DOutput", "Targets"]
