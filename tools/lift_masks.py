"""``python tools/lift_masks.py SCAN FRAMES -o DIR --segmenter masks:DIR``: the same as ``pc3d lift``."""

import sys

from pc3d.cli import main

sys.exit(main(["lift", *sys.argv[1:]]))
