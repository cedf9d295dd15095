"""The record of a run."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


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
