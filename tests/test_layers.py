"""The order of the rooms: an import only points down, and heavy libraries stay in their rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import pc3d

ROOT = Path(pc3d.__file__).resolve().parent
LAYERS = (
    ("errors", "progress", "weights"),
    ("structures", "config"),
    ("ops",),
    ("io", "superpoints", "transforms"),
    ("nn", "losses", "metrics"),
    ("models", "data", "reconstruct", "lift"),
    ("synth",),  # fuses its virtual frames with reconstruct
    ("engine", "viz"),
    ("bench",),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
# Library -> path prefixes inside pc3d/ that may import it.
HOMES = {
    "open3d": ("viz/", "synth/", "reconstruct/"),
    "spconv": ("nn/sparse", "bench/"), "torch_scatter": ("bench/",),
    "transformers": ("lift/segmenters",),
    "plyfile": ("io/", "bench/"), "laspy": ("io/",), "lazrs": ("io/",), "pye57": ("io/",), "pypcd4": ("io/",),
    "matplotlib": ("viz/",),
    "typer": ("cli/",),
}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem != "__init__")


@cache
def imports_of(path: Path) -> tuple[tuple[int, str], ...]:
    """Every (line, dotted module) that a file imports, inside functions too; ``from pc3d import read`` becomes pc3d.io."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                folders = path.relative_to(ROOT.parent).parts[:-node.level]
                base = ".".join([*folders, base]).rstrip(".")
            if base == "pc3d":
                names = [alias.name for alias in node.names]
                found += [(node.lineno, pc3d._EXPORTS.get(name, f"pc3d.{name}")) for name in names if name != "__version__"]
            else:
                found.append((node.lineno, base))
    return tuple(found)


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_only_point_down(path: Path) -> None:
    room = room_of(path)
    assert room in RANK, f"{name_of(path)} is in no room of the design"
    for line, module in imports_of(path):
        parts = module.split(".")
        if parts[0] == "pc3d" and len(parts) > 1 and parts[1] != room:
            assert parts[1] in RANK, f"{name_of(path)}:{line} imports {module}, which is no room of the design"
            assert RANK[parts[1]] < RANK[room], f"{name_of(path)}:{line} imports {module}, which is not below {room}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    for line, module in imports_of(path):
        homes = HOMES.get(module.split(".")[0])
        assert homes is None or name_of(path).startswith(homes), f"{name_of(path)}:{line} imports {module}; only {homes} may"


def test_open3d_is_imported_only_inside_functions() -> None:
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            imported = isinstance(node, ast.Import | ast.ImportFrom) and "open3d" in ast.unparse(node).replace(".", " ").split()
            assert not imported, f"{name_of(path)}:{node.lineno} imports open3d at the top"


def test_the_walk_sees_an_import_inside_a_function(tmp_path: Path) -> None:
    module = tmp_path / "lazy.py"
    module.write_text("def f():\n    import open3d.t\n    from pc3d import read\n    from pc3d.cli import main\n")
    assert imports_of(module) == ((2, "open3d.t"), (3, "pc3d.io"), (4, "pc3d.cli"))


def test_importing_pc3d_loads_nothing_heavy() -> None:
    heavy = ["torch", "open3d", "transformers", "spconv", "sklearn", "matplotlib", "scipy", "numpy"]
    code = f"import pc3d, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", pc3d._EXPORTS)
def test_every_export_exists(name: str) -> None:
    assert getattr(pc3d, name).__module__.startswith("pc3d")


def test_an_unknown_export_names_the_known_ones() -> None:
    with pytest.raises(AttributeError, match="exports read, write"):
        pc3d.raed  # noqa: B018
