"""Files of ``torch.save`` that hold a tuple of numpy arrays: read without running anything that is in them.

``torch.load(weights_only=True)`` interprets the pickle itself and knows a short list of names. To those come here, for
arrays, an array, a type of numbers, and the encoding that old pickles keep bytes in; everything else is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pc3d.errors import FormatError, explain
from pc3d.io.files import check_file

_NUMBERS = ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float16", "Float32", "Float64")


def read_arrays(path: Path) -> list[NDArray[Any] | str | int | float | None]:
    """The members of a tuple: arrays of numbers (tensors too become arrays), and plain values as they are.

    Raises FileError, or FormatError for anything else than arrays and plain values; nothing of the file is ever executed.
    """
    check_file(path)
    try:
        with torch.serialization.safe_globals(_allowed()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, ValueError, EOFError, TypeError, KeyError, IndexError, AttributeError, MemoryError,
            OverflowError, UnicodeError, ImportError, OSError) as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        raise FormatError(explain("the file is no tuple of arrays", where=path,
                                  got=f"{refused[1]} in it" if refused else str(error).split("\n")[0][:120],
                                  expected="arrays of numbers and plain values",
                                  do="It is cut off or holds other objects; nothing in it was run.")) from error
    members = content if isinstance(content, tuple | list) else (content,)
    return [_member(path, place, member) for place, member in enumerate(members)]


def _allowed() -> list[Any]:
    names = [(_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    return [*names, np.ndarray, np.dtype, (_latin1, "_codecs.encode"), *(getattr(np.dtypes, f"{n}DType") for n in _NUMBERS)]


def _array(kind: type, shape: tuple[int, ...], code: bytes) -> NDArray[Any]:
    """An empty array, whatever shape is asked for: its contents come after it."""
    return np.empty(0, np.int8)


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes that pickles of protocol 2 keep as text."""
    return text.encode("latin-1")


def _member(path: Path, place: int, member: Any) -> Any:
    values = member.numpy() if isinstance(member, torch.Tensor) else member
    if isinstance(values, np.ndarray) and values.dtype.kind not in "biuf":
        raise FormatError(explain("an array does not hold numbers", where=f"{path}: member {place}", got=values.dtype))
    if values is not None and not isinstance(values, np.ndarray | np.generic | str | int | float):
        raise FormatError(explain("a member is no array", where=f"{path}: member {place}", got=type(values).__name__))
    return values
