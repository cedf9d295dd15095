"""How an op of pc3d is made: schema, reference, fake and backward, in one call.

The reference, in plain torch, is what the op means. It is registered for every device; a kernel of the native library
takes its place where there is one. So an op works, and gives the same numbers, whether the library was built or not.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import Any

import torch

#: Op -> its reference in plain torch, as ``define`` got them.
REFERENCES: dict[str, Callable[..., Any]] = {}

LIBRARY_PATH = Path(__file__).resolve().parent.parent / "_C.abi3.so"


@cache
def native_error() -> str | None:
    """Load the native library once; return None when it is there, else why it is not."""
    if os.environ.get("PC3D_NATIVE") == "0":
        return "switched off by PC3D_NATIVE=0"
    if not LIBRARY_PATH.exists():
        return f"{LIBRARY_PATH.name} was not built"
    if newer := newer_source(LIBRARY_PATH, LIBRARY_PATH.parent.parent / "csrc"):
        return f"{LIBRARY_PATH.name} is older than csrc/{newer}"
    try:
        torch.ops.load_library(str(LIBRARY_PATH))
    except OSError as error:
        return f"{LIBRARY_PATH.name} does not load: {error}"
    return None


def newer_source(library: Path, sources: Path) -> str | None:
    """In a checkout, a source changed since the library was built: what it was built from may mean other things by an op."""
    built = library.stat().st_mtime
    return next((path.name for path in sorted(sources.glob("*.*")) if path.stat().st_mtime > built), None)


@cache
def warn_without_native() -> None:
    """Say once what is slower without the native library and how to build it."""
    if reason := native_error():
        warnings.warn(
            f"pc3d runs its torch reference ops, several times slower than the native ones ({reason}). "
            "Build them with a C++ compiler at hand: pip install --no-build-isolation --force-reinstall --no-deps pc3d "
            "(in a checkout: make native). `pc3d doctor` shows the state.", RuntimeWarning, stacklevel=3)


def define(
    schema: str,
    *,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> Callable[..., Any]:
    """Define ``pc3d::<schema>`` and return the callable op.

    ``fake`` computes output shapes only. ``backward`` and ``setup_context`` follow torch.library.register_autograd.
    """
    warn_without_native()
    name = f"pc3d::{schema.split('(')[0]}"
    torch.library.define(name, schema[schema.index("("):])
    torch.library.impl(name, "CompositeExplicitAutograd", reference)
    REFERENCES[name.removeprefix("pc3d::")] = reference
    torch.library.register_fake(name, fake)
    if backward is not None:
        torch.library.register_autograd(name, backward, setup_context=setup_context)
    return getattr(torch.ops.pc3d, name.removeprefix("pc3d::")).default


def on_cpu(reference: Callable[..., Any]) -> Callable[..., Any]:
    """The reference of an algorithm of the host: tensors of another device are moved to the CPU, and the results back."""
    def moved(argument: Any) -> Any:
        if isinstance(argument, list):
            return [moved(one) for one in argument]
        return argument.cpu() if isinstance(argument, torch.Tensor) else argument

    @wraps(reference)
    def run(*arguments: Any) -> Any:
        device = next((a.device for a in arguments if isinstance(a, torch.Tensor)), torch.device("cpu"))
        results = reference(*map(moved, arguments))
        return results.to(device) if isinstance(results, torch.Tensor) else tuple(result.to(device) for result in results)

    return run


def has_kernel(op: str, device: str = "CPU") -> bool:
    """Whether the native library brings a kernel of this op for a dispatch key (CPU or CUDA)."""
    if native_error():
        return False
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(f"pc3d::{op}", device))


def known_ops() -> Sequence[str]:
    """Names of all ops defined so far, in alphabetical order."""
    names = (name.split(".")[0] for name in torch._C._dispatch_get_all_op_names())
    return sorted({name.removeprefix("pc3d::") for name in names if name.startswith("pc3d::")})
