"""Posed images and 2D masks become 3D instances on the points of a scan.

    lifter = Lifter(cloud)                       # a cloud with superpoints
    for frame in frames:
        lifter.add(frame, segmenter(frame))      # or masks from anywhere
    instances = lifter.instances()

Frames only add counts: how many points of each superpoint a mask holds, and a frame sees. How masks are put together
(``methods``) is settled over those counts alone, whenever instances are asked for. ``fuse`` joins them with what
the network found. ``lift_prompt`` finds the one object that a click on the scan means, or a point or box on a frame.
"""

from pc3d.lift.config import LiftConfig
from pc3d.lift.fusion import FusionConfig, fuse
from pc3d.lift.lifter import Lifter, lift
from pc3d.lift.masks import FrameMasks
from pc3d.lift.prompts import Pixels, Prompt, lift_prompt

__all__ = ["FrameMasks", "FusionConfig", "LiftConfig", "Lifter", "Pixels", "Prompt", "fuse", "lift", "lift_prompt"]
