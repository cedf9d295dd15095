"""Progress of long work: a bar on a terminal, plain lines elsewhere; and the record of a run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def track(items: Iterable[T], label: str, *, total: int | None = None, every: float = 15.0) -> Iterator[T]:
    """Yield the items, showing a bar on a terminal, or a line each ``every`` seconds when the output is a file."""
    total = len(items) if total is None and isinstance(items, Sized) else total
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=label, total=total, leave=False)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= every:
            last = now
            print(f"{label}: {done}{f'/{total}' if total else ''} after {now - start:.0f} s", file=sys.stderr, flush=True)
        yield item


class MetricsLog:
    """Appends one json object a line to ``metrics.jsonl`` of a run folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"

    def write(self, kind: str, values: dict[str, Any]) -> None:
        """Append a record with its kind and the time of day (unix seconds)."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "time": round(time.time(), 3), **values}) + "\n")

    def read(self, kind: str) -> list[dict[str, Any]]:
        """All records of one kind, in order."""
        if not self.path.exists():
            return []
        records = (json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines())
        return [record for record in records if record["kind"] == kind]
