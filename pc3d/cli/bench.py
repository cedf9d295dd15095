"""``pc3d bench``: how fast pc3d is on this machine, beside what people use today."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer

from pc3d.cli.console import table

EXAMPLES = """
pc3d bench
pc3d bench steps --rounds 9
pc3d bench steps --threads 1 --json > steps.jsonl
"""


def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Which benchmarks; none: all.")] = None,
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Timed runs of each side; medians are printed.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch; not given: torch's own choice.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one json object a line, the machine first.")] = False,
) -> list[dict[str, Any]]:
    """Time pc3d on generated data, beside what people use today; outputs are compared before anything is timed."""
    # Threads that spin for long turn 4 s into 20 where others work too; ones that sleep at once halve the speed of small ops.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    import torch

    from pc3d.bench import BENCHMARKS
    from pc3d.errors import ConfigError, explain

    for name in names or []:
        if name not in BENCHMARKS:
            raise ConfigError(explain("unknown benchmark", got=repr(name), expected=f"one of {', '.join(BENCHMARKS)}"))
    if threads:
        torch.set_num_threads(threads)
    found = [_machine()]
    print(json.dumps(found[0]) if as_json else ", ".join(f"{key} {value}" for key, value in found[0].items()), flush=True)
    for name in names or BENCHMARKS:
        rows = []
        for row in BENCHMARKS[name](rounds):
            rows.append({"benchmark": name, **row.to_json()})
            if as_json:
                print(json.dumps(rows[-1]), flush=True)
            elif sys.stderr.isatty():
                print(f"{row.name} ...", file=sys.stderr)
        found += rows
        if not as_json:
            print(f"\n{name}\n{_as_table(rows)}", flush=True)
    return found


def _machine() -> dict[str, Any]:
    """What the figures must be read with."""
    import torch

    from pc3d.bench.machine import peak_flops
    from pc3d.cli.doctor import versions

    known = versions()
    peaks = {f"peak_gflops_{name}": round(peak_flops(getattr(torch, name)) / 1e9) for name in ("float32", "bfloat16")}
    return {"cpu": known["cpu"], "cores": known["cores"], "threads": torch.get_num_threads(), "torch": known["torch"], **peaks}


COLUMNS = ("name", "seconds", "peer", "peer_seconds", "ratio", "percent_of_peak")
KNOWN = {*COLUMNS, "benchmark", "threads", "cpu_seconds", "peer_cpu_seconds"}


def _as_table(rows: list[dict[str, Any]]) -> str:
    """The columns that any row has; what else was measured goes to the end of its line."""
    columns = [column for column in COLUMNS if any(column in row for row in rows)]
    header = [{"seconds": "ms", "peer_seconds": "peer ms", "percent_of_peak": "% of peak"}.get(column, column)
              for column in columns]
    cells = []
    for row in rows:
        more = ", ".join(f"{key} {_figure(key, value)}" for key, value in row.items() if key not in KNOWN)
        cells.append([*(_figure(column, row.get(column, "")) for column in columns), more])
    return table([*header, ""], cells)


def _figure(column: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if column in ("seconds", "peer_seconds"):
        return f"{1e3 * value:.1f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
