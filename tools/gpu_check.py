"""Prove pc3d on a machine with a CUDA GPU, in minutes: ``python tools/gpu_check.py [--only ops|network|bench|tests] [--json]``.

Builds the library, runs tests/gpu, compares every op and the whole network with the CPU, times the segment ops against
torch, and prints markdown for docs/benchmarks.md. Exit code 1: something differs. 5: no CUDA here.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("tests", "ops", "network", "bench")
TITLES = {"ops": "Ops, CUDA against CPU (relative difference)",
          "network": "The whole network on the demo room, CUDA against CPU", "bench": "Times"}
NO_CUDA = 5


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that were asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="run one part alone; the library is built in any case")
    parser.add_argument("--json", action="store_true", help="print json instead of markdown")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print(f"gpu_check: no CUDA device is usable here; got torch {torch.__version__} built for CUDA {torch.version.cuda}; "
              "expected a GPU, its driver and a CUDA build of torch", file=sys.stderr)
        return NO_CUDA
    build_library()
    parts = PARTS if options.only is None else (options.only,)
    failed = "tests" in parts and not run_tests()
    report = {"machine": machine(), **{part: run_part(part, "cuda") for part in parts if part != "tests"}}
    print(json.dumps(report, indent=2) if options.json else markdown(report))
    return int(failed or any(row["ok"] is False for part in parts for row in report.get(part, ())))


def build_library() -> None:
    """Build in place what is out of date; what the compiler says goes to stderr."""
    subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT, check=True, stdout=sys.stderr)


def run_tests() -> bool:
    """Whether all tests that need a GPU pass."""
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/gpu"], cwd=ROOT, stdout=sys.stderr).returncode == 0


def run_part(part: str, device: str) -> list[dict[str, Any]]:
    """The rows of one part. Imports pc3d only now: its import loads the library, which must have been built before."""
    sys.path[:0] = [entry for entry in (str(ROOT), str(ROOT / "tools")) if entry not in sys.path]
    import gpu_comparisons

    run = {"ops": gpu_comparisons.compare_ops, "network": gpu_comparisons.compare_network, "bench": gpu_comparisons.benchmark}
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
