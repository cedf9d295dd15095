"""Prove pc3d on a machine with a CUDA GPU, in minutes: ``python tools/gpu_check.py [--only PART] [--json] [--minutes 9]``.

Builds the library, runs tests/gpu, compares every op, the sparse convolution in every type and the whole network with the
CPU, times ops against torch and the U-Net against spconv (where installed) and torch, and prints markdown for
docs/benchmarks.md. What was done is kept in a state file: no part begins after --minutes, and the same command goes on with
what is left. Exit code 1: something differs. 5: no CUDA, or no kernels for it. 75: parts are left, run it again.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("ops", "sparse", "tests", "network", "bench", "unet")
TITLES = {"ops": "Ops, CUDA against CPU (relative difference)",
          "sparse": "Sparse convolution, CUDA against float64 on the CPU (relative difference)",
          "tests": "Tests that need a GPU",
          "network": "The whole network on the demo room, CUDA against CPU", "bench": "Times",
          "unet": "The U-Net on scene S, from coordinates on"}
NO_CUDA = 5
UNFINISHED = 75


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that were asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="run one part alone; the library is built in any case")
    parser.add_argument("--json", action="store_true", help="print json instead of markdown")
    parser.add_argument("--minutes", type=float, default=9.0, help="begin no part after so many minutes (default 9)")
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "gpu_check.json", help="file of the parts done so far")
    parser.add_argument("--fresh", action="store_true", help="forget the parts done so far")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(f"gpu_check: no CUDA device is usable here; got torch {torch.__version__} built for CUDA {torch.version.cuda}; "
              "expected a GPU, its driver and a CUDA build of torch", file=sys.stderr)
        return NO_CUDA
    start = time.monotonic()
    build_library()
    if not has_cuda_kernels():
        print("gpu_check: the library has no CUDA kernels, and torch's references are not what is to be proven; expected an "
              "nvcc (on the PATH, or in CUDA_HOME) that can compile them: what the build said is above", file=sys.stderr)
        return NO_CUDA
    parts = PARTS if options.only is None else (options.only,)
    state = State(options.state, {**machine(), "sources": sources_hash()})
    if options.fresh:
        state.forget(parts)
    left = run_parts(parts, state, lambda: time.monotonic() - start < 60 * options.minutes)
    report = {"machine": machine(), **{part: rows for part, rows in state.parts.items() if part in parts}}
    print(json.dumps(report, indent=2) if options.json else markdown(report))
    if left:
        print(f"gpu_check: {', '.join(left)} left; run the same command again", file=sys.stderr)
        return UNFINISHED
    return int(any(row["ok"] is False for part in parts for row in state.parts[part]))


class State:
    """The rows of the parts that were done, in a file; those of another device, date, torch or source are not taken up."""

    def __init__(self, path: Path, of: dict[str, str]) -> None:
        self.path, self.of = path, of
        found = json.loads(path.read_text()) if path.exists() else {}
        self.parts: dict[str, list[dict[str, Any]]] = found["parts"] if found.get("of") == of else {}

    def forget(self, parts: Iterable[str]) -> None:
        """Drop parts, to do them again."""
        for part in parts:
            self.parts.pop(part, None)

    def keep(self, part: str, rows: list[dict[str, Any]]) -> None:
        """Add a part and write the file: a later run that is cut short loses nothing."""
        self.parts[part] = rows
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({"of": self.of, "parts": self.parts}))
        fresh.replace(self.path)


def run_parts(parts: Sequence[str], state: State, in_time: Callable[[], bool]) -> list[str]:
    """Do what is not done yet while there is time; return what is left."""
    for part in parts:
        if part not in state.parts and in_time():
            state.keep(part, run_tests() if part == "tests" else run_part(part, "cuda"))
    return [part for part in parts if part not in state.parts]


def sources_hash() -> str:
    """One number for all that a result depends on."""
    folders = ((ROOT / "csrc", "*"), (ROOT / "pc3d", "*.py"), (ROOT / "tools", "*.py"), (ROOT / "tests" / "gpu", "*.py"))
    digest = hashlib.sha256()
    for path in sorted(path for folder, pattern in folders for path in folder.rglob(pattern) if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def build_library() -> None:
    """Build in place what is out of date; what the compiler says goes to stderr."""
    subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT, check=True, stdout=sys.stderr)


def has_cuda_kernels() -> bool:
    """Whether the library that was built is used, and brings kernels for CUDA."""
    sys.path[:0] = [] if str(ROOT) in sys.path else [str(ROOT)]
    from pc3d.ops._library import native_error

    return native_error() is None and bool(torch.ops.pc3d.native_features() & 1)


def run_tests() -> list[dict[str, Any]]:
    """Whether all tests that need a GPU pass, as a row; what pytest says goes to stderr."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(done.stdout, file=sys.stderr)
    summary = done.stdout.strip().splitlines()[-1:] or ["pytest said nothing"]
    return [{"what": "tests/gpu", "result": summary[0].strip("= "), "ok": done.returncode == 0}]


def run_part(part: str, device: str) -> list[dict[str, Any]]:
    """The rows of one part. Imports pc3d only now: its import loads the library, which must have been built before."""
    sys.path[:0] = [entry for entry in (str(ROOT), str(ROOT / "tools")) if entry not in sys.path]
    import gpu_comparisons
    import gpu_sparse

    run: dict[str, Callable[[str], Iterable[Any]]] = {
        "ops": gpu_comparisons.compare_ops, "sparse": gpu_sparse.compare_all, "network": gpu_comparisons.compare_network,
        "bench": gpu_comparisons.benchmark, "unet": gpu_sparse.benchmark_unet,
    }
    rows = []
    for row in run[part](device):
        rows.append({"what": row.what, **row.numbers, "ok": row.ok})
        print(f"{part}: {row.what}{' FAILS' if row.ok is False else ''}", file=sys.stderr)
    return rows


def machine() -> dict[str, str]:
    """What the numbers are of."""
    return {"device": torch.cuda.get_device_name(), "date": datetime.date.today().isoformat(), "torch": torch.__version__,
            "cuda": str(torch.version.cuda)}


def markdown(report: dict[str, Any]) -> str:
    """The report as a section of docs/benchmarks.md."""
    about = report["machine"]
    lines = [f"## {about['device']}, {about['date']}", "",
             f"torch {about['torch']}, CUDA {about['cuda']}, by `tools/gpu_check.py`."]
    for part, title in TITLES.items():
        if rows := report.get(part):
            lines += ["", f"### {title}", "", *table(rows)]
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows as markdown; a column for every key of any row, unless no row has a value there."""
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if any(row.get(key) is not None for row in rows)]
    body = ["| " + " | ".join(cell(row.get(key)) for key in keys) + " |" for row in rows]
    return ["| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys), *body]


def cell(value: float | str | bool | None) -> str:
    """One value, short."""
    if isinstance(value, bool):
        return "yes" if value else "**NO**"
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value).replace("|", "/").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
