"""What the verbs say and how: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pc3d.errors import FileError, FormatError, explain
from pc3d.progress import Counter as Counter  # the one way to show progress; verbs take it from here


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


def first_process() -> bool:
    """Whether this is the process that speaks, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Print a result, once for all processes."""
    if first_process():
        print(text)


def output_folder(path: Path) -> Path:
    """Make the folder that results go to before anything is computed; FileError where that cannot be."""
    if path.exists() and not path.is_dir():
        raise FileError(explain("this is a file", where=path, expected="a folder to write to"))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(explain("the folder cannot be made", where=path, got=error.strerror)) from error
    if not os.access(path, os.W_OK):
        raise FileError(explain("the folder cannot be written to", where=path, do="Check its permissions."))
    return path


@contextmanager
def results_in(path: Path) -> Iterator[None]:
    """``output_folder`` for what is computed inside; where that fails, folders made here that are empty go again."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    output_folder(path)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise


@contextmanager
def result_in(path: Path, suffixes: Iterable[str]) -> Iterator[None]:
    """Check the name of a file to write, and make its folder as ``results_in`` does, before what is inside is computed."""
    if path.suffix.lower() not in suffixes:
        raise FormatError(explain("unknown file type", where=path, got=repr(path.suffix),
                                  expected=f"one of {', '.join(suffixes)}"))
    if path.is_dir():
        raise FileError(explain("this is a folder", where=path, expected="a file to write"))
    with results_in(path.parent):
        yield


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


def in_shell(path: Path) -> str:
    """A path as a shell takes it, for commands that are to be copied: quoted where there are blanks in it."""
    return shlex.quote(str(path))


def size_of(path: Path) -> str:
    """A file's name and size, for "wrote" lines."""
    count = path.stat().st_size
    return f"{path} ({count / 1e6:.1f} MB)" if count >= 1e6 else f"{path} ({max(1, count // 1000)} kB)"
