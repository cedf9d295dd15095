"""House rules that a reader would otherwise have to watch over by eye."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "pc3d").rglob("*.py"), *(ROOT / "tools").rglob("*.py"), ROOT / "setup.py"])
MAX_FUNCTION_LINES = 80
MAX_MODULE_LINES = 400
MAX_FILE_BYTES = 10 * 2**20
MACHINE_PATH = re.compile(rb"(?<![\w.])/(?:work|root|home|Users|workspace)/[\w.-]+")
# These take columns of a scan by name; PointCloud refuses names that it does not know.
NAMES_COLUMNS = {"pc3d/structures/point_cloud.py:from_world", "pc3d/structures/point_cloud.py:replace"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> list[tuple[str, int]]:
    """(name, lines) of every function in a file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1)
            for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def tracked_files() -> list[Path]:
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.decode().split("\0") if name and (ROOT / name).is_file()]


def test_functions_are_short() -> None:
    lengths = [(count, f"{name_of(path)}:{name}") for path in SOURCES for name, count in functions(path)]
    assert not [entry for entry in lengths if entry[0] > MAX_FUNCTION_LINES]
    assert sum(count for count, _ in lengths) / len(lengths) < 20


def test_modules_are_short() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: count for name, count in lengths.items() if count > MAX_MODULE_LINES} == {}


def test_no_large_file_is_tracked() -> None:
    large = {name_of(path): path.stat().st_size for path in tracked_files() if path.stat().st_size > MAX_FILE_BYTES}
    assert large == {}


def test_no_built_library_or_pickle_is_tracked() -> None:
    assert not [name_of(path) for path in tracked_files() if path.suffix in {".so", ".o", ".pkl", ".pth", ".pt"}]


def undocumented(tree: ast.Module) -> list[str]:
    """Public functions, classes and methods without a docstring; ``forward`` is described by its class."""
    silent = []
    for node in tree.body:
        members = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else []
        for part in (node, *members):
            if isinstance(part, ast.FunctionDef | ast.ClassDef) and not part.name.startswith("_"):
                silent += [part.name] if part.name != "forward" and not ast.get_docstring(part) else []
    return silent


def test_every_module_and_public_function_says_what_it_is() -> None:
    silent = []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        silent += [name_of(path)] if not ast.get_docstring(tree) and tree.body else []
        if path.is_relative_to(ROOT / "pc3d"):
            silent += [f"{name_of(path)}:{name}" for name in undocumented(tree)]
    assert silent == []


def test_the_walk_sees_what_has_no_docstring() -> None:
    text = "def f(): ...\ndef _g(): ...\nclass C:\n  'doc'\n  def m(self): ...\n  def forward(self): ...\n  def _p(self): ...\n"
    assert undocumented(ast.parse(text)) == ["f", "m"]


def test_no_function_takes_arguments_it_does_not_name() -> None:
    open_ended = {f"{name_of(path)}:{node.name}" for path in SOURCES for node in ast.walk(ast.parse(path.read_text("utf-8")))
                  if isinstance(node, ast.FunctionDef) and node.args.kwarg is not None}
    assert open_ended <= NAMES_COLUMNS


def test_nothing_is_global() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not isinstance(node, ast.Global), f"{name_of(path)}:{node.lineno} changes a global"


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            found += [f"{name_of(path)}: {match.decode()}" for match in MACHINE_PATH.findall(content)]
    assert found == []


def test_user_input_never_meets_an_assert_and_nothing_is_left_undone() -> None:
    for path in (p for p in SOURCES if p.is_relative_to(ROOT / "pc3d")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            test = ast.unparse(node.test) if isinstance(node, ast.Assert) else ""
            narrows = test.endswith("is not None") or test.startswith("isinstance(")  # said to the type checker, not to users
            assert narrows or not isinstance(node, ast.Assert), f"{name_of(path)}:{node.lineno} asserts"
            undone = isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc)
            assert not undone, f"{name_of(path)}:{getattr(node, 'lineno', 0)} raises NotImplementedError"


def test_every_make_target_has_a_line_of_help() -> None:
    listing = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    for target in phony.split()[1:]:
        assert f"make {target}" in listing
    assert subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout == listing


@pytest.mark.parametrize(("text", "path"), [
    (b"see /wo" b"rk/shared/x.md", b"/wo" b"rk/shared"), (b"'/ho" b"me/me/scan.ply'", b"/ho" b"me/me"),
    (b"data/home/me", None), (b"/tmp/demo", None)])
def test_the_walk_knows_paths_of_a_machine(text: bytes, path: bytes | None) -> None:
    assert MACHINE_PATH.findall(text) == ([] if path is None else [path])
