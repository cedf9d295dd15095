"""``python tools/test.py CONFIG CHECKPOINT [key=value ...]``: the same as ``pc3d eval``."""

import sys

from pc3d.cli import leave, main

leave(main(["eval", *sys.argv[1:]]))
