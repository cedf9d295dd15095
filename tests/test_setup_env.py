"""tools/setup_env.py without network: which torch it takes, what it says when pip fails, when it does nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "setup_env.py"


@pytest.fixture
def setup_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module whose .venv is an empty folder elsewhere."""
    spec = importlib.util.spec_from_file_location("setup_env", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    monkeypatch.setattr(module, "VENV", tmp_path)
    monkeypatch.setattr(module, "PYTHON", tmp_path / "bin" / "python")
    monkeypatch.setattr(module, "CONSTRAINTS", tmp_path / "constraints.txt")
    return module


def fake_python(module: ModuleType, script: str) -> None:
    module.PYTHON.write_text(f"#!/bin/sh\n{script}\n")
    module.PYTHON.chmod(0o755)


@pytest.mark.parametrize(("version", "enough"), [
    ("2.10.0", True), ("2.13.0+cpu", True), ("3.0.0", True), ("2.14.0.dev20260901+cu130", True),
    ("2.9.1", False), ("1.13.1", False), ("unknown", False)])
def test_a_torch_from_2_10_on_is_respected(setup_env: ModuleType, version: str, enough: bool) -> None:
    assert setup_env.new_enough(version) is enough


def test_the_installed_torch_is_held_by_a_constraint(setup_env: ModuleType) -> None:
    fake_python(setup_env, "echo 2.11.0+cu130")
    setup_env.choose_torch()
    assert setup_env.CONSTRAINTS.read_text() == "torch==2.11.0+cu130\n"


def test_the_packages_of_the_calling_python_are_shared(setup_env: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/x", "/env/lib/python3.11/site-packages", "/usr/lib/python3/dist-packages"])
    setup_env.share_outside_packages()
    assert setup_env.shared_packages_file().read_text() == "/env/lib/python3.11/site-packages\n/usr/lib/python3/dist-packages\n"


def test_an_unreachable_index_is_told_from_other_failures(setup_env: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    fake_python(setup_env, "echo 'ERROR: No matching distribution found for torch==2.13.0' >&2; exit 1")
    with pytest.raises(setup_env.SetupError, match=r"could not fetch torch==2\.13\.0(.|\n)*Check the network"):
        setup_env.pip("install", "torch==2.13.0")
    assert "No matching distribution" in capsys.readouterr().err
    fake_python(setup_env, "echo 'ERROR: no space left on device' >&2; exit 1")
    with pytest.raises(setup_env.SetupError, match="pip failed"):
        setup_env.pip("install", "torch==2.13.0")


def test_a_finished_install_is_not_done_again(setup_env: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(setup_env, "pip", lambda *arguments: calls.append(arguments))
    setup_env.install_pc3d(["dev", "viz"])
    done = len(calls)
    assert done > 0
    for extras in ([], ["viz"], ["dev", "viz"]):
        setup_env.install_pc3d(extras)
        assert len(calls) == done
    setup_env.install_pc3d(["io"])
    assert calls[-1][-1].endswith("[dev,io,viz]")


def test_the_native_build_is_asked_for_each_time_so_that_a_failed_one_is_tried_again(setup_env: ModuleType) -> None:
    calls = setup_env.VENV / "calls"
    fake_python(setup_env, f'echo "$@" >> {calls}')  # setup.py ends well, and builds nothing: there is no compiler
    setup_env.build_native()
    setup_env.build_native()
    assert calls.read_text() == "setup.py -q build_ext --inplace\n" * 2


def test_an_old_python_is_told_what_to_do(setup_env: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(setup_env.SetupError, match=r"PYTHON=python3\.12"):
        setup_env.check_python()
