"""Procedural rooms, a virtual RGB-D scanner, and the data set they make."""

from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.dataset import make_scene, write_dataset
from pc3d.synth.rooms import RECIPES, Room, make_room
from pc3d.synth.scanner import ScannerConfig, scan_room, virtual_frames

__all__ = [
    "RECIPES",
    "SCANNET_CLASSES",
    "Room",
    "ScannerConfig",
    "make_room",
    "make_scene",
    "scan_room",
    "virtual_frames",
    "write_dataset",
]
