"""What CI promises: lint and tests, and no test skipped but for a missing GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TESTS = """
import pytest

@pytest.mark.skip(reason="needs a CUDA device")
def test_gpu(): ...

@pytest.mark.skipif({also}, reason="no such library here")
def test_library(): ...

@pytest.mark.xfail
def test_known(): raise ValueError
"""


@pytest.mark.parametrize(("also", "ci", "code"), [(True, "true", 1), (False, "true", 0), (True, "", 0)])
def test_in_ci_a_skip_for_anything_but_a_gpu_is_a_failure(tmp_path: Path, also: bool, ci: str, code: int) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_skips.py").write_text(TESTS.format(also=also))
    (tmp_path / "test_module.py").write_text(f"import pytest\nif {also}: pytest.importorskip('pc3d_no_such_module')\n"
                                             "def test_it(): ...\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:dash", "-q", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "CI": ci})
    assert done.returncode == code, done.stdout + done.stderr
    shown = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED IN CI")]
    assert len(shown) == 2 * code
    assert all("no such library here" in line or "pc3d_no_such_module" in line for line in shown)


def test_ci_runs_lint_and_tests_with_every_extra_that_a_test_needs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make lint test EXTRAS=dev,viz,io,lift,train,cuda" in script
    assert "export CI=true" in script
