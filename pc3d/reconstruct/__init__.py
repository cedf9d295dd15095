"""Posed RGB-D frames to a coloured mesh."""

from pc3d.reconstruct.align import align_up
from pc3d.reconstruct.fusion import fuse, reconstruct

__all__ = ["align_up", "fuse", "reconstruct"]
