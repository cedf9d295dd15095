"""``pc3d doctor``: what is installed, what was built, and whether it works."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from pc3d.cli.console import print_json, status, table
from pc3d.errors import install_command

EXAMPLES = """
pc3d doctor
pc3d doctor --json > report.json
"""

#: Module -> (extra that brings it, what it unlocks).
OPTIONAL = {
    "open3d": ("viz", "pc3d view, pc3d synth, pc3d reconstruct"),
    "PIL": ("viz", "images of RGB-D frames: pc3d reconstruct"),
    "laspy": ("io", ".las and .laz files"),
    "transformers": ("lift", "2D models: pc3d lift --segmenter sam2:..., mask2former:..."),
    "spconv": ("cuda", "a second engine for sparse convolution"),
}
ISA_NAMES = ("plain", "avx2", "avx512", "avx512bf16", "amx")


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print the report as json.")] = False) -> dict[str, Any]:
    """Say what is installed, what was built and for which GPUs, and prove each op on a tiny input; exit code 5 if one fails."""
    with status("looking"):
        report = examine()
    if as_json:
        print_json(report)
    else:
        print_report(report)
    if not report["ok"]:
        raise typer.Exit(5)
    return report


def examine() -> dict[str, Any]:
    """Collect the whole report; ``ok`` is whether segmenting works here."""
    problems: list[str] = []
    try:
        import torch  # noqa: F401
    except Exception as error:
        return {"ok": False, "problems": [f"torch does not import: {error}"], "versions": versions(), "packages": packages()}
    ops = operations()
    problems += [f"op {op['name']}: {op['problem']}" for op in ops if not op["ok"]]
    found = weights()
    problems += [f"{entry['name']}: {entry['problem']}" for entry in found if entry["problem"]]
    return {"ok": not problems, "problems": problems, "versions": versions(), "native": native_library(), "cuda": cuda(),
            "ops": ops, "weights": found, "packages": packages()}


def versions() -> dict[str, Any]:
    """Versions and the machine."""
    from pc3d import __version__

    return {"pc3d": __version__, "python": platform.python_version(), "torch": _version("torch"), "numpy": _version("numpy"),
            "os": platform.platform(), "cpu": _cpu_name(), "cores": os.cpu_count(), "threads": _threads()}


def native_library() -> dict[str, Any]:
    """Where the native library is, whether it loads, and what it was built with."""
    import torch

    from pc3d.ops._library import LIBRARY_PATH, native_error

    problem = native_error()
    state = {"path": str(LIBRARY_PATH), "built": LIBRARY_PATH.exists(), "loaded": problem is None, "problem": problem}
    if problem is not None:
        return state
    native = torch.ops.pc3d
    return {**state, "isa": ISA_NAMES[int(native.native_isa())], "cuda_kernels": bool(native.native_features() & 1),
            "archs": [f"sm_{digits}" for digits in _unpack(int(native.native_archs()))]}


def cuda() -> dict[str, Any]:
    """What torch says of GPUs."""
    import torch

    usable = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if usable else []
    return {"torch_cuda": torch.version.cuda, "usable": usable, "devices": names}


def operations() -> list[dict[str, Any]]:
    """Each op proven against its reference."""
    from math import isfinite

    from pc3d.cli.op_checks import prove_ops

    return [{**vars(proof), "max_error": proof.max_error if isfinite(proof.max_error) else None} for proof in prove_ops()]


def weights() -> list[dict[str, Any]]:
    """The networks that ship with pc3d."""
    from pc3d.errors import Pc3dError
    from pc3d.models.registry import find_weights
    from pc3d.weights import MODELS

    entries: list[dict[str, Any]] = []
    for name in MODELS:
        entry: dict[str, Any] = {"name": name, "path": None, "megabytes": None, "problem": None}
        try:
            path = find_weights(name)
            entry |= {"path": str(path), "megabytes": round(path.stat().st_size / 1e6, 2)}
        except Pc3dError as error:
            entry["problem"] = str(error)
        entries.append(entry)
    return entries


def packages() -> list[dict[str, Any]]:
    """Optional packages: each is imported in a process of its own, since a broken one may take its process along."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        problems = list(pool.map(_import_problem, OPTIONAL))
    return [{"name": name, "version": _version(_distribution(name)), "works": problem is None, "problem": problem,
             "unlocks": unlocks, "install": install_command(extra)}
            for (name, (extra, unlocks)), problem in zip(OPTIONAL.items(), problems)]


def print_report(report: dict[str, Any]) -> None:
    """The report for people."""
    about = report["versions"]
    print(f"pc3d {about['pc3d']}, Python {about['python']}, torch {about['torch']}, numpy {about['numpy']}")
    print(f"{about['os']}; {about['cpu']}, {about['cores']} cores, {about['threads']} threads")
    if "native" in report:
        print(f"\n{_native_line(report['native'])}\n{_cuda_line(report['cuda'])}\n\nOps, each run on a tiny input:")
        rows = [[op["name"], op["cpu"], op["cuda"], _verdict(op)] for op in report["ops"]]
        print(table(["op", "CPU", "CUDA", "against the reference"], rows))
        print("\nNetworks:")
        for entry in report["weights"]:
            print("  " + (entry["problem"] or f"{entry['name']}: {entry['path']} ({entry['megabytes']} MB)"))
    print("\nOptional packages:")
    print(table(["package", "version", "for"], [_package_row(package) for package in report["packages"]]))
    print("\nAll well." if report["ok"] else "\nProblems:")
    for problem in report["problems"]:
        print(f"  {problem}")


def _verdict(op: dict[str, Any]) -> str:
    return op["problem"] or "ok" if op["ok"] else f"FAILS: {op['problem']}"


def _package_row(package: dict[str, Any]) -> list[str]:
    if package["works"]:
        return [package["name"], package["version"] or "yes", package["unlocks"]]
    return [package["name"], "no", f"{package['unlocks']}: {package['problem']} ({package['install']})"]


def _native_line(native: dict[str, Any]) -> str:
    if not native["loaded"]:
        return (f"Native library: {native['problem']}; the torch references run instead, several times slower.\n"
                "  Build it with a C++ compiler at hand: make native")
    archs = f"CUDA kernels for {', '.join(native['archs'])} and PTX" if native["cuda_kernels"] else "no nvcc at build time"
    return f"Native library: {native['path']}\n  CPU kernels up to {native['isa']}; {archs}"


def _cuda_line(state: dict[str, Any]) -> str:
    if state["usable"]:
        return f"CUDA {state['torch_cuda']}: {', '.join(state['devices'])}"
    build = "is a CPU build" if state["torch_cuda"] is None else f"has {state['torch_cuda']}, but no GPU is usable"
    return f"CUDA: torch {build}"


def _import_problem(module: str) -> str | None:
    """None when a module imports, else the last line of why not."""
    if find_spec(module) is None:
        return "not installed"
    try:
        done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return "its import takes more than a minute"
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"its import ended with code {done.returncode}"])[-1]


def _distribution(module: str) -> str:
    """Name on the package index of an optional module."""
    if module == "open3d":
        return next((name for name in ("open3d-cpu", "open3d") if _version(name)), "open3d")
    if module == "spconv":
        return next((name for name in ("spconv-cu120", "spconv-cu126", "spconv") if _version(name)), "spconv")
    return {"PIL": "pillow"}.get(module, module)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _threads() -> int | None:
    try:
        import torch
    except Exception:
        return None
    return torch.get_num_threads()


def _unpack(archs: int) -> list[int]:
    """80090 -> [80, 90]."""
    return [*_unpack(archs // 1000), archs % 1000] if archs else []
