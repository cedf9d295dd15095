"""Procedural rooms, a virtual RGB-D scanner, and the data set they make.

``make_room`` furnishes a room of one of seven kinds, L-shaped or open to one side now and then, or a suite of two rooms;
``clutter`` leaves things on the furniture, the floor and the walls; ``scan_room`` walks a noisy RGB-D camera through it, often
through a part of it alone, and fuses what the camera saw; ``write_dataset`` does all this for a range of seeds, also in the raw
layouts of ScanNetV2, ScanNet++ and S3DIS. A seed, a split and the models in use name one room for good.

``val`` and ``test`` differ from ``train`` in two ways: their random streams never meet, and half of their chairs, tables,
desks, cabinets, bookshelves, sofas and beds along the walls come from models that training never shows: shell chair,
pedestal table, drawer desk, sideboard, cube shelf, chesterfield, box spring bed (``furniture.VALIDATION_MAKERS``).

Where Debian's ``sweethome3d-furniture`` is installed, ``synth.models`` reads its real-size models, and a ``Stock`` with them
furnishes rooms from both; a quarter of the models of each class is kept for ``val`` and ``test``.

Labelled as in ScanNet: the bed's own pillows and blankets belong to it, books to the shelf, a worktop is a counter and what
is below it a cabinet; bins, standing lamps, stools and crates are otherfurniture. Whatever ``clutter`` leaves about (cups,
screens, bags, cushions, plants, boxes; boards, radiators, towels and televisions on the walls), rugs, mirrors, hobs, walls,
floor and ceiling are -1.
"""

from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.dataset import make_scene, make_views, write_dataset
from pc3d.synth.export_s3dis import export_s3dis
from pc3d.synth.export_scannet import export_scannet
from pc3d.synth.export_scannetpp import export_scannetpp
from pc3d.synth.mask_noise import MaskNoise, noisy_masks
from pc3d.synth.rooms import RECIPES, Room, make_room
from pc3d.synth.scanner import ScannerConfig, View, scan_room, scan_views, virtual_frames

__all__ = [
    "RECIPES",
    "SCANNET_CLASSES",
    "MaskNoise",
    "Room",
    "ScannerConfig",
    "View",
    "export_s3dis",
    "export_scannet",
    "export_scannetpp",
    "make_room",
    "make_scene",
    "make_views",
    "noisy_masks",
    "scan_room",
    "scan_views",
    "virtual_frames",
    "write_dataset",
]
