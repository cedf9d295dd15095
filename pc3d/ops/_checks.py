"""Value checks that several ops share; each raises DataError."""

from __future__ import annotations

import torch
from torch import Tensor

from pc3d.errors import DataError, explain


def check_rows(op: str, name: str, value: Tensor, width: int, dtype: torch.dtype, rows: int | None = None) -> None:
    """Raise unless value is (rows, width) of dtype; any number of rows when rows is None."""
    if value.dtype != dtype or value.dim() != 2 or value.shape[1] != width or rows not in (None, len(value)):
        expected = f"{dtype} ({'any' if rows is None else rows}, {width})"
        raise DataError(explain(f"{name} has the wrong type or shape", where=op, got=f"{value.dtype} {tuple(value.shape)}",
                                expected=expected))


def check_ids(op: str, name: str, ids: Tensor, count: int, low: int = 0) -> None:
    """Raise unless every id is in [low, count): one pass over the ids, so that kernels need no checks.

    A compiled graph cannot branch on values: there the assertion is part of the graph and raises RuntimeError.
    """
    if torch.compiler.is_compiling():
        torch._assert_async(((ids >= low) & (ids < count)).all(),
                            f"{op}: {name} out of range; expected ids in [{low}, {count})")
        return
    if ids.numel():
        least, most = (int(v) for v in ids.aminmax())
        if least < low or most >= count:
            raise DataError(explain(f"{name} out of range", where=op, got=least if least < low else most,
                                    expected=f"ids in [{low}, {count})"))


def check_finite(op: str, name: str, value: Tensor) -> None:
    """Raise unless every number is finite."""
    if not bool(value.isfinite().all()):
        row = int((~value.isfinite()).reshape(len(value), -1).any(1).nonzero()[0])
        raise DataError(explain(f"{name} has a number that is not finite", where=f"{op}:row {row}",
                                got=value[row].tolist(), expected="finite numbers"))
