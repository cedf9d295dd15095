"""``python tools/prepare_data.py DATASET RAW OUT``: the same as ``pc3d prepare``."""

import sys

from pc3d.cli import main

sys.exit(main(["prepare", *sys.argv[1:]]))
