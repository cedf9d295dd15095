"""Make .venv and install pc3d into it; `make demo` and `make test` start here.

A torch >= 2.10 that the calling Python already has is used as it is. Otherwise one known torch is installed first,
and every later install is held to it by a constraints file, so that no dependency can swap it.
Finished steps leave a stamp in .venv, and a second call returns at once. Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
CONSTRAINTS = VENV / "constraints.txt"
OLDEST_TORCH = (2, 10)
KNOWN_TORCH = "2.13.0"  # what the tests run with
NETWORK_SIGNS = ("NewConnectionError", "ConnectTimeout", "Name or service not known", "name resolution", "ProxyError",
                 "No matching distribution", "ReadTimeout", "SSLError", "Network is unreachable", "Max retries exceeded")


class SetupError(Exception):
    """A step failed; the message says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extras", default="", help="extras of pyproject.toml to install, e.g. dev,viz,io,train")
    extras = sorted(filter(None, parser.parse_args().extras.split(",")))
    try:
        check_python()
        make_venv()
        choose_torch()
        install_pc3d(extras)
        build_native()
    except SetupError as error:
        print(f"\nsetup: {error}", file=sys.stderr)
        return 1
    return 0


def check_python() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036  an old Python is exactly what this must catch
        raise SetupError(f"pc3d needs Python 3.10 or newer, this is {sys.version.split()[0]} ({sys.executable}).\n"
                         "Name another one: make demo PYTHON=python3.12")


def make_venv() -> None:
    """Create .venv, or keep the one that is there and runs."""
    if PYTHON.exists() and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return
    say(f"making .venv with Python {sys.version.split()[0]}")
    done = subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"python3 -m venv failed:\n{done.stdout}{done.stderr}"
                         "On Debian and Ubuntu it comes with: apt-get install python3-venv")


def choose_torch() -> None:
    """Leave a torch >= 2.10 in .venv and a constraints file that holds it."""
    installed = torch_in_venv()
    if installed is None and torch_outside() is not None:
        share_outside_packages()
        installed = torch_in_venv()
        if installed:
            say(f"using the torch {installed} of {sys.executable}")
        else:
            shared_packages_file().unlink()
    if installed is None:
        say(f"installing torch {KNOWN_TORCH} (the large one)")
        pip("install", f"torch=={KNOWN_TORCH}")
        installed = torch_in_venv()
    if installed is None:
        raise SetupError("torch was installed but does not import; try: make clean, and make again")
    CONSTRAINTS.write_text(f"torch=={installed}\n")


def torch_in_venv() -> str | None:
    """Version of a torch that .venv can import and that is new enough, else None."""
    probe = "import torch.version as v, torch; print(v.__version__)"
    stamp = Stamp("torch", torch_origin_in_venv())
    if stamp.is_fresh() and CONSTRAINTS.exists():
        return CONSTRAINTS.read_text().strip().removeprefix("torch==")
    done = subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True)
    found = done.stdout.strip()
    if done.returncode or not new_enough(found):
        return None
    stamp.write()
    return found


def torch_origin_in_venv() -> str:
    """Where .venv finds torch and which version, without importing it (that takes seconds)."""
    probe = ("from importlib.metadata import version; from importlib.util import find_spec\n"
             "print(find_spec('torch').origin, version('torch'))")
    return subprocess.run([PYTHON, "-c", probe], capture_output=True, text=True).stdout.strip()


def torch_outside() -> str | None:
    """Version of the torch of the calling Python when it is new enough, else None."""
    try:
        found = version("torch") if find_spec("torch") else None
    except PackageNotFoundError:
        return None
    return found if found and new_enough(found) else None


def new_enough(torch_version: str) -> bool:
    try:
        major, minor = torch_version.split(".")[:2]
        return (int(major), int(minor)) >= OLDEST_TORCH
    except ValueError:
        return False


def share_outside_packages() -> None:
    """Let .venv see the packages of the calling Python, whatever kind of environment that is; its own come first.

    --system-site-packages would do for a system Python only: from a virtual environment it leads to the Python below.
    """
    folders = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    shared_packages_file().write_text("".join(f"{folder}\n" for folder in folders))


def shared_packages_file() -> Path:
    site_packages = next((VENV / "lib").glob("python*/site-packages"))
    return site_packages / "zz_packages_of_the_calling_python.pth"


def install_pc3d(extras: list[str]) -> None:
    """Editable install with the asked extras; skipped when that was done before with the same files."""
    have = sorted(set((VENV / ".stamp-extras").read_text().split())) if (VENV / ".stamp-extras").exists() else []
    stamp = Stamp("install", digest([ROOT / "pyproject.toml", ROOT / "setup.py"]))
    if stamp.is_fresh() and set(extras) <= set(have):
        return
    wanted = sorted({*extras, *have})
    say(f"installing pc3d{' with ' + ', '.join(wanted) if wanted else ''}")
    pip("install", "-c", str(CONSTRAINTS), "setuptools>=77", "wheel")
    pip("install", "-c", str(CONSTRAINTS), "--no-build-isolation", "-e", f"{ROOT}[{','.join(wanted)}]" if wanted else str(ROOT))
    (VENV / ".stamp-extras").write_text("\n".join(wanted))
    stamp.write()


def build_native() -> None:
    """Let setup.py build what is not up to date; it knows best, and says what a missing compiler costs."""
    subprocess.run([PYTHON, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT)


def pip(*arguments: str) -> None:
    """Run pip in .venv; its progress goes to the terminal, its warnings are shown only when it fails."""
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    command = [str(PYTHON), "-m", "pip", arguments[0], *quiet, *arguments[1:]]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    complaints = list(process.stderr or ())
    if process.wait() == 0:
        return
    print("".join(complaints), end="", file=sys.stderr)
    if any(sign in line for line in complaints for sign in NETWORK_SIGNS):
        raise SetupError(f"pip could not fetch {arguments[-1]}: the package index was not reachable, or has nothing for this "
                         "Python.\nCheck the network, or tell pip your proxy or mirror (pip config set global.proxy ..., "
                         "global.index-url ...), and run make again: what is installed already is kept.")
    raise SetupError(f"pip failed: {' '.join(command)}\nIts reason is above. Nothing outside .venv was touched; "
                     "`make clean` starts from nothing.")


class Stamp:
    """A file in .venv that holds what a finished step was made from."""

    def __init__(self, name: str, key: str) -> None:
        self.path, self.key = VENV / f".stamp-{name}", key

    def is_fresh(self) -> bool:
        return bool(self.key) and self.path.exists() and self.path.read_text() == self.key

    def write(self) -> None:
        self.path.write_text(self.key)


def digest(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode())
        total.update(file.read_bytes())
    return total.hexdigest()


START = time.monotonic()


def say(line: str) -> None:
    print(f"[{time.monotonic() - START:5.1f} s] {line} ...", flush=True)


if __name__ == "__main__":
    sys.exit(main())
