"""What the verbs say and how: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

#: Name of the network used when none is given; the same as pc3d.engine's, which would load torch here.
DEFAULT_MODEL = "relation3d-synth"


@contextmanager
def status(label: str) -> Iterator[None]:
    """Show that work is going on: a spinner with seconds on a terminal, one line elsewhere."""
    if not sys.stderr.isatty():
        print(f"{label} ...", file=sys.stderr, flush=True)
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(label, total=None)
        yield


class Counter:
    """Progress of counted work as ``(done, total)`` calls: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, label: str, every: float = 10.0) -> None:
        self.label, self.every = label, every
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        line = f"{self.label}: {done}/{total} after {now - self.start:.0f} s"
        if sys.stderr.isatty():
            bar = ("#" * (30 * done // max(total, 1))).ljust(30, ".")
            print(f"\r{line} [{bar}]", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif done == total or now - self.last >= self.every:
            self.last = now
            print(line, file=sys.stderr, flush=True)


def counted(items: Sequence[T], label: str) -> Iterator[T]:
    """Yield the items and show how far one is."""
    counter = Counter(label)
    for done, item in enumerate(items, 1):
        yield item
        counter(done, len(items))


def print_json(value: Any) -> None:
    """Print json that every parser reads: no NaN, paths as text."""
    print(json.dumps(value, indent=2, allow_nan=False, default=str))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align rows of text under a header; columns that hold numbers only go to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    right = [bool(rows) and all(row[i][:1].isdigit() or row[i][:1] in "-" for row in rows) for i in range(len(header))]
    lines = []
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in zip(row, widths, right)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def seconds_line(seconds: dict[str, float]) -> str:
    """Stages and their seconds in one line, the sum last."""
    parts = [f"{stage} {value:.2f}" for stage, value in seconds.items()]
    return f"seconds: {', '.join(parts)}; {sum(seconds.values()):.2f} in all"


def size_of(path: Path) -> str:
    """A file's name and size, for "wrote" lines."""
    count = path.stat().st_size
    return f"{path} ({count / 2**20:.1f} MB)" if count >= 2**20 else f"{path} ({max(1, count // 1024)} kB)"
