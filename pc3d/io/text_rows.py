"""Numbers as text, with as many digits as bring every value back exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Digits that name a float uniquely: 9 for float32, 17 for float64.
_FORMATS = {"f2": "%.5g", "f4": "%.9g", "f8": "%.17g"}


def format_rows(columns: list[NDArray[Any]], separator: str = " ") -> str:
    """One line a row; floats keep every bit, integers and flags are whole numbers."""
    row = separator.join(_FORMATS.get(values.dtype.str[1:], "%d") for values in columns) + "\n"
    return "".join(map(row.__mod__, zip(*(np.asarray(values).tolist() for values in columns))))
