"""The comparisons of these tests are those of ``tools/gpu_check.py``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
