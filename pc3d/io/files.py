"""What every reader and writer needs: is there a file worth opening, and how to write one without leaving half of it."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pc3d.errors import FileError, FormatError, explain


def check_file(path: Path, *, may_be_empty: bool = False) -> int:
    """Return the size in bytes of a readable file; raise FileError (missing, folder), or FormatError for an empty one."""
    if not path.exists():
        raise FileError(explain("there is no such file", where=path, do=_suggest(path)))
    if not path.is_file():
        raise FileError(explain("this is not a file", where=path, got="a folder" if path.is_dir() else "a device",
                                expected="one scan file"))
    try:
        with path.open("rb"):
            size = path.stat().st_size
    except OSError as error:
        raise FileError(explain("the file cannot be opened", where=path, got=error.strerror,
                                do="Check its permissions.")) from error
    if size == 0 and not may_be_empty:
        raise FormatError(explain("the file is empty", where=path, got="0 bytes", do="Copy or export it again."))
    return size


def read_text(path: Path) -> str:
    """The text of a file that is not empty. Raises FileError, or FormatError for what is not UTF-8."""
    check_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(explain("the file is not text in UTF-8", where=path, got=str(error))) from error


def read_json(path: Path) -> Any:
    """What a json file holds. Raises FileError (missing, unreadable) or FormatError (no json)."""
    return parse_json(read_text(path), path)


def parse_json(text: str | bytes, where: object) -> Any:
    """What json says. Raises FormatError naming ``where``, also for what is nested too deeply to be read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(explain("the file is not valid json", where=where, got=str(error)[:200],
                                  do="It is probably cut off: copy it again.")) from error


def inflate(content: bytes, most: int, wbits: int = zlib.MAX_WBITS) -> bytes:
    """Unpack what should be ``most`` bytes or fewer; zlib.error for more, before there is memory taken for them."""
    packed = zlib.decompressobj(wbits)
    unpacked = packed.decompress(content, most + 1)
    if len(unpacked) > most or not packed.eof:
        raise zlib.error(f"more than {most} bytes" if len(unpacked) > most else "it is cut off")
    return unpacked


def check_folder(path: Path) -> Path:
    """Return a folder that is there, or raise FileError."""
    if not path.is_dir():
        raise FileError(explain("there is no such folder" if not path.exists() else "this is not a folder", where=path))
    return path


def _suggest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either."
    namesakes = sorted(other.name for other in path.parent.glob("*") if other.stem == path.stem)
    return f"The same folder holds {', '.join(namesakes[:5])}." if namesakes else "Check the path."


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside ``path`` that takes its place when the block ends well and disappears when it does not.

    Where ``path`` is a link, the file that it leads to is written and the link stays.
    """
    place = Path(os.path.realpath(path))
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
            _sync_folder(place.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(explain("the file cannot be written", where=path, got=error.strerror or error,
                                do="Check that the folder exists, is writable and has room.")) from error


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; not every system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
