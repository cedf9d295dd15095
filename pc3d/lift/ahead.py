"""Reading ahead: files of the next frames are read and decoded in background threads while one is counted."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NoReturn, TypeVar

from pc3d.errors import Pc3dError

_MOST_THREADS = 8

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(items: Iterable[T], read: Callable[[T], R], *, workers: int | None = None) -> Generator[R]:
    """Yield ``read(item)`` of every item in their order, up to two a thread read in advance.

    What ``read`` raises is raised in the item's turn. ``workers``: threads, as many as there are cores by default, up to 8.
    """
    count = workers or min(_MOST_THREADS, max(2, _cores()))
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(count, "read_ahead") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:      # nobody waits for them any more: an error, or the user's Ctrl-C
                future.cancel()


def held(read: Callable[[], R]) -> Callable[[], R]:
    """Read now: a function that gives what was read, or raises the Pc3dError that reading it raised."""
    try:
        value = read()
    except Pc3dError as error:
        return _Raise(error)
    return lambda: value


class _Raise:
    """Raises an error whenever it is called."""

    def __init__(self, error: Pc3dError) -> None:
        self.error = error

    def __call__(self) -> NoReturn:
        raise self.error


def _cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
