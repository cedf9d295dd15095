"""``python -m pc3d`` is the ``pc3d`` command."""

import sys

from pc3d.cli import main

sys.exit(main())
