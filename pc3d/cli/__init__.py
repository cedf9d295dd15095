"""The ``pc3d`` command: one verb a file, each a plain function that Python can call too.

Exit codes: 0 done, 1 unexpected, 2 usage, 3 bad file, 4 bad config, 5 missing backend, 130 stopped by ctrl-C.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Annotated, Any, NoReturn

import typer

from pc3d import __version__
from pc3d.cli import (
    bench,
    convert,
    demo,
    doctor,
    evaluate,
    frames,
    lift,
    prepare,
    reconstruct,
    segment,
    submission,
    superpoints,
    synth,
    train,
    view,
)
from pc3d.errors import Pc3dError

#: Verb -> (function, examples shown below its --help).
VERBS: dict[str, tuple[Callable[..., Any], str]] = {
    "segment": (segment.segment, segment.EXAMPLES),
    "view": (view.view, view.EXAMPLES),
    "demo": (demo.demo, demo.EXAMPLES),
    "reconstruct": (reconstruct.reconstruct, reconstruct.EXAMPLES),
    "frames": (frames.frames, frames.EXAMPLES),
    "lift": (lift.lift, lift.EXAMPLES),
    "superpoints": (superpoints.superpoints, superpoints.EXAMPLES),
    "prepare": (prepare.prepare, prepare.EXAMPLES),
    "train": (train.train, train.EXAMPLES),
    "eval": (evaluate.evaluate, evaluate.EXAMPLES),
    "submission": (submission.submission, submission.EXAMPLES),
    "synth": (synth.synth, synth.EXAMPLES),
    "convert": (convert.convert, convert.EXAMPLES),
    "bench": (bench.bench, bench.EXAMPLES),
    "doctor": (doctor.doctor, doctor.EXAMPLES),
}

STOPPED = 130  # what shells expect after ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors become one block of text on stderr."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning  # type: ignore[assignment]  # it takes what it needs of five arguments
            returned = typer.main.get_command(make_app())(args=arguments, prog_name="pc3d", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        returned = STOPPED
    except BrokenPipeError:  # the reader went away, as in `pc3d eval ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _report(error)
    if type(returned) is int and returned == STOPPED:  # newer typers return it for ctrl-C, older ones raise Abort
        return _fail("stopped", STOPPED)
    return returned if type(returned) is int else 0


def leave(code: int) -> NoReturn:
    """End the process; one of several that torchrun started ends at once.

    A finished run was seen to abort in its last moment ("terminate called without an active exception", once, torch 2.13).
    The likely cause: DistributedDataParallel keeps gloo's threads beyond destroy_process_group, down to the interpreter's end.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def make_app() -> typer.Typer:
    """Build the command from VERBS."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
                      context_settings={"help_option_names": ["-h", "--help"]})
    app.callback(epilog=_verbatim("pc3d segment room.ply -o out\npc3d view out"))(about)
    for verb, (function, examples) in VERBS.items():
        summary = (function.__doc__ or "").split(";")[0].strip().rstrip(".")
        app.command(verb, short_help=summary, epilog=_verbatim(examples),
                    no_args_is_help=verb not in ("demo", "doctor", "bench"))(_command(function))
    return app


def _command(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without its return type: typer resolves every annotation, and that one names a class of a heavy room."""
    command = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__,
                           function.__closure__)
    command.__kwdefaults__ = function.__kwdefaults__
    command.__annotations__ = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    command.__doc__ = function.__doc__
    return command


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"pc3d {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")]


def about(version: Version = False) -> None:
    """A scan goes in, object instances on its own points come out."""


def _verbatim(examples: str) -> str:
    """An epilog that keeps its lines: the backspace stops click from wrapping them."""
    return "\b\nExamples:\n" + "".join(f"  {line}\n" for line in examples.strip().splitlines())


def _report(error: Exception) -> int:
    """Show an error as its kind deserves and return the exit code."""
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # usage errors of click, whichever click typer brings
        error.show()
        return int(error.exit_code)
    if os.environ.get("PC3D_TRACEBACK") == "1":
        traceback.print_exception(error)
    if isinstance(error, Pc3dError):
        return _fail(str(error), error.exit_code)
    if isinstance(error, OSError):
        return _fail(str(error), 3)
    hint = "This should not happen. PC3D_TRACEBACK=1 shows where it did; please report it."
    return _fail(f"{type(error).__name__}: {error}\n{hint}", 1)


def _fail(message: str, code: int) -> int:
    print(f"pc3d: {message}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, *_where: object) -> None:
    print(f"pc3d: warning: {message}", file=sys.stderr)
