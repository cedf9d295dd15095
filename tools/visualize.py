"""``python tools/visualize.py RESULT [--png FILE]``: the same as ``pc3d view``."""

import sys

from pc3d.cli import main

sys.exit(main(["view", *sys.argv[1:]]))
