"""``python tools/benchmark.py [NAME]... [--json]``: the same as ``pc3d bench``."""

import sys

from pc3d.cli import main

if __name__ == "__main__":  # a benchmark of memory starts processes, which import this file anew
    sys.exit(main(["bench", *sys.argv[1:]]))
