"""``python tools/train.py CONFIG [key=value ...]``: the same as ``pc3d train``."""

import sys

from pc3d.cli import leave, main

leave(main(["train", *sys.argv[1:]]))
