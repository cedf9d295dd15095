"""``python tools/benchmark.py [NAME]... [--json]``: the same as ``pc3d bench``."""

import sys

from pc3d.cli import main

sys.exit(main(["bench", *sys.argv[1:]]))
