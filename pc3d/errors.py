"""Errors a user can act on.

Every error pc3d raises on bad input says what was wrong, where, what it got, what it expected and what to do.
``exit_code`` is what the command line returns for it; 2 is left to wrong usage.
"""

from __future__ import annotations


class Pc3dError(Exception):
    """Base of all errors raised on purpose by pc3d."""

    exit_code = 1


class FileError(Pc3dError):
    """A file or folder is missing, unreadable, or cannot be written."""

    exit_code = 3


class FormatError(FileError):
    """A file is there, but its contents break its format."""


class DataError(Pc3dError, ValueError):
    """Arrays that do not fit together, or values that make no sense (NaN, out of range, too few points)."""

    exit_code = 3


class ConfigError(Pc3dError, ValueError):
    """A config key or value is unknown or not allowed."""

    exit_code = 4


class CheckpointError(Pc3dError):
    """A checkpoint cannot be used: wrong shapes, missing keys, or unsafe contents."""

    exit_code = 4


class BackendError(Pc3dError):
    """An optional library or device that this call needs is missing or too old."""

    exit_code = 5


def explain(what: str, *, where: object = None, got: object = None, expected: object = None, do: str | None = None) -> str:
    """Compose an error message: what (where): got X, expected Y. What to do."""
    message = what if where is None else f"{where}: {what}"
    if got is not None:
        message += f"; got {got}"
    if expected is not None:
        message += f"; expected {expected}"
    return message + (f". {do}" if do else "")


#: What to do when a package is installed but the system libraries it loads are not.
SYSTEM_LIBRARIES = {
    "open3d": "Install the system libraries it loads, on Debian: apt-get install libusb-1.0-0 libegl1 libgl1 libgomp1",
}


def require_package(module: str, *, extra: str, purpose: str) -> None:
    """Raise BackendError with the install command when an optional package cannot be imported."""
    from importlib import import_module

    name = module.split(".")[0]
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise BackendError(explain(f"{purpose} needs the package {name!r}, which is not installed ({error})",
                                   do=f"Install it with: {install_command(extra)}")) from error
    except (ImportError, OSError) as error:
        remedy = SYSTEM_LIBRARIES.get(name, f"Install it again with: {install_command(extra)}")
        raise BackendError(explain(f"{purpose} needs the package {name!r}, which is installed but does not load ({error})",
                                   do=remedy)) from error


def install_command(extra: str) -> str:
    """The command that installs an extra, typed in pc3d's checkout: pc3d is on no package index."""
    return f"pip install -e '.[{extra}]'"
