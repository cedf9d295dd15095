"""Progress of long work on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")


class Counter:
    """Progress of counted work as ``(done, total)`` calls, with a ``note`` on what was last done.

    Elsewhere than on a terminal, a line each ``every`` seconds.
    """

    def __init__(self, label: str, every: float = 15.0) -> None:
        self.label, self.every = label, every
        self.shown = ""
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        now = time.monotonic()
        line = f"{self.label}: {done}{f'/{total}' if total is not None else ''} after {now - self.start:.0f} s"
        if sys.stderr.isatty():
            bar = f" [{('#' * (30 * done // max(total, 1))).ljust(30, '.')}]" if total is not None else ""
            width = shutil.get_terminal_size().columns - 1
            shown = f"{line}{bar}  {note}"[:width].ljust(len(self.shown)) if note else line + bar
            print(f"\r{shown}", end="\n" if done == total else "", file=sys.stderr, flush=True)
            self.shown = shown.rstrip()
        elif done == total or now - self.last >= self.every:
            self.last = now
            print(f"{line}  {note}".rstrip(), file=sys.stderr, flush=True)


def track(items: Iterable[T], label: str, *, total: int | None = None, every: float = 15.0) -> Iterator[T]:
    """Yield the items and show how far one is; ``total`` is asked of the items when it is not given."""
    total = len(items) if total is None and isinstance(items, Sized) else total
    counter = Counter(label, every)
    for done, item in enumerate(items, 1):
        yield item
        counter(done, total)
