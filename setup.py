"""Builds the native library ``pc3d/_C.abi3.so`` from csrc/; everything else is in pyproject.toml.

The library uses torch's stable ABI and no Python API, so one file serves every torch >= 2.10 and every Python.
``.cpp`` files go to the C++ compiler, ``.cu`` files to nvcc when there is one. No compiler, no torch or a failed
build never fails the install: pc3d then runs its torch references and says so once.

Environment: PC3D_NATIVE=0 skips the build; PC3D_CUDA=0 skips nvcc; CUDA_HOME, CXX, PC3D_CUDA_ARCHS ("80;90").
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
LIBRARY = "pc3d/_C.abi3.so"
DEFINES = ["-DTORCH_TARGET_VERSION=0x020A000000000000"]  # torch 2.10, the oldest one served
CXX_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra", *DEFINES]
NVCC_FLAGS = ["-std=c++17", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden", "--cudart", "static"]


def torch_folder() -> Path | None:
    """Folder of the installed torch, found without importing it."""
    spec = find_spec("torch")
    return Path(spec.origin).parent if spec and spec.origin else None


def cuda_home() -> Path | None:
    """Toolkit folder whose bin/nvcc runs, or None."""
    if os.environ.get("PC3D_CUDA") == "0":
        return None
    candidates = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    if nvcc := shutil.which("nvcc"):
        # nvcc may be a wrapper script elsewhere; its dry run names the real toolkit.
        dryrun = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True).stderr
        candidates += [line.split("TOP=", 1)[1].strip() for line in dryrun.splitlines() if "TOP=" in line]
    for folder in candidates:
        if folder and (Path(folder) / "bin" / "nvcc").exists():
            return Path(folder).resolve()
    return None


def holder(file: str, root: Path, *folders: str) -> Path | None:
    """The first of some folders of a root, given as patterns, that holds a file."""
    return next((path.parent for folder in folders for path in sorted(root.glob(f"{folder}/{file}"))), None)


def cuda_headers(home: Path) -> Path | None:
    """Folder of the headers of a toolkit, NVIDIA's or conda's; Debian's are where the compiler looks anyway."""
    return holder("cuda_runtime_api.h", home, "include", "targets/*/include")


def cudart_folder(home: Path, system: Path = Path("/usr/lib")) -> Path:
    """Folder of the static CUDA runtime of a toolkit: NVIDIA's, conda's, or Debian's, which keeps it among the system's."""
    file = "libcudart_static.a"
    if folder := holder(file, home, "lib64", "lib", "targets/*/lib") or holder(file, system, "*-linux-gnu"):
        return folder
    raise RuntimeError(f"there is no {file} in {home}; with conda: conda install cuda-cudart-static")


def gencode(archs: list[str]) -> list[str]:
    """Machine code for every arch, and PTX of the newest so that later GPUs run too."""
    flags = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in archs]
    return [*flags, f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}"]


def run(command: list[str]) -> None:
    """Run one compiler command; raise with its output when it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")


def stale(product: Path, sources: list[Path]) -> bool:
    return not product.exists() or product.stat().st_mtime < max(s.stat().st_mtime for s in sources)


def compiler() -> list[str]:
    """Command of the C++ compiler: $CXX, else the first of c++, g++, clang++."""
    named = shlex.split(os.environ.get("CXX", ""))
    found = shutil.which(named[0]) if named else next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if found is None:
        raise RuntimeError(f"the C++ compiler CXX={named[0]} was not found" if named else
                           "no C++ compiler found (c++, g++, clang++ or $CXX); on Debian: apt-get install g++")
    return [found, *named[1:]]


def build_library(target: Path, work: Path, home: Path | None) -> None:
    """Compile csrc/ and link ``target``; with a CUDA toolkit the kernels too.

    What is in ``work`` is kept where source, headers, flags, torch and the versions of the compilers are the same.
    """
    torch = torch_folder()
    if torch is None:
        raise RuntimeError("torch is not installed here; install torch first and use pip's --no-build-isolation")
    cxx = compiler()
    includes = [f"-I{CSRC}", f"-isystem{torch / 'include'}"]
    sources = sorted(CSRC.glob("*.cpp"))
    if not sources:
        raise RuntimeError(f"there is no C++ source in {CSRC}: this copy of pc3d is incomplete")
    headers = [*CSRC.glob("*.h"), Path(__file__)]
    cxx_flags, archs = list(CXX_FLAGS), os.environ.get("PC3D_CUDA_ARCHS", "80;90").split(";")
    if home:
        cxx_flags += ["-DPC3D_CUDA", f"-DPC3D_CUDA_ARCHS=\"{';'.join(archs)}\""]
        if found := cuda_headers(home):
            cxx_flags.append(f"-isystem{found}")
    cpp = [*cxx, *cxx_flags, *includes, "-c"]
    nvcc = [str(home / "bin" / "nvcc"), *NVCC_FLAGS, *gencode(archs), f"-I{CSRC}", "-c"] if home else []
    jobs = [(source, work / f"{source.name}{'.cuda.o' if home else '.o'}", cpp) for source in sources]
    jobs = [*[(source, work / f"{source.name}.o", nvcc) for source in sorted(CSRC.glob("*.cu")) if home], *jobs]

    # libtorch.so holds nothing but the names of the others, libtorch_cuda.so among them, where the current stream is asked
    # for: a linker that drops what nothing is taken from, as Debian's and Ubuntu's do, would leave the kernels without one.
    keep = ["-Wl,--no-as-needed"] if sys.platform == "linux" else []
    libraries = [f"-L{torch / 'lib'}", *keep, "-ltorch", "-ltorch_cpu", "-lc10"]
    if home:
        libraries += [f"-L{cudart_folder(home)}", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
    objects = [obj for _, obj, _ in jobs]
    # A kernel that is called but was never written is an error here, and not when the library is loaded.
    complete = ["-Wl,--no-undefined"] if sys.platform == "linux" else []
    link = [*cxx, "-shared", *complete, *map(str, objects), *libraries]
    key = build_key([cpp, nvcc, libraries], torch, cxx, home)

    work.mkdir(parents=True, exist_ok=True)
    compiled, linked = KeyFile(work / f"{'cuda' if home else 'cpu'}.key"), KeyFile(work / "library.key")
    if not compiled.holds(key):
        compiled.path.unlink(missing_ok=True)
    todo = [([*command, str(source), "-o"], obj) for source, obj, command in jobs
            if not compiled.path.exists() or stale(obj, [source, *headers])]
    if todo:
        print(f"compiling {len(todo)} files of csrc/", flush=True)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(lambda job: compile_one(*job), todo))
    compiled.path.write_text(key)
    made_from = f"{target}\n{shlex.join(link)}\n{key}"
    if linked.holds(made_from) and not stale(target, objects):
        target.touch()  # newer than every source: pc3d.ops takes a library that is not for an old one
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    run([*link, "-o", str(fresh)])
    os.replace(fresh, target)
    linked.path.write_text(made_from)


def build_key(commands: list[list[str]], torch: Path, cxx: list[str], home: Path | None) -> str:
    """Everything besides the sources that decides what a build gives: commands, and versions of the tools and of torch."""
    tools = [[cxx[0], "--version"], *([[str(home / "bin" / "nvcc"), "--version"]] if home else [])]
    versions = [subprocess.run(tool, capture_output=True, text=True).stdout for tool in tools]
    return "\n".join([*map(shlex.join, commands), *versions, (torch / "version.py").read_text()])


@dataclass(frozen=True)
class KeyFile:
    """A file in the build folder that says what its neighbours were made from; written when they are done."""

    path: Path

    def holds(self, key: str) -> bool:
        return self.path.exists() and self.path.read_text() == key


def compile_one(command: list[str], obj: Path) -> None:
    """Compile to a temporary beside ``obj`` so that an interrupted build leaves no broken object."""
    fresh = obj.with_suffix(".tmp.o")
    run([*command, str(fresh)])
    os.replace(fresh, obj)


class BuildNative(build_ext):
    """Builds the one library; a failure is reported and survived."""

    def run(self) -> None:
        if os.environ.get("PC3D_NATIVE") == "0":
            return
        target = (ROOT if self.inplace else Path(self.build_lib)) / LIBRARY
        work = ROOT / "build" / f"native-{sys.platform}"
        if home := cuda_home():
            try:
                return build_library(target, work, home)
            except Exception as error:
                print(f"\npc3d: the CUDA kernels were not built with {home}; building for the CPU alone.\n{error}\n",
                      file=sys.stderr)
        try:
            build_library(target, work, None)
        except Exception as error:
            print(f"\npc3d: the native library was not built; pc3d works without it, several times slower.\n{error}\n",
                  file=sys.stderr)

    def get_outputs(self) -> list[str]:
        return [str(Path(self.build_lib) / LIBRARY)]


class BuildPython(build_py):
    """Puts the class tables and split lists of datasets/ into the package; an editable install finds them where they are."""

    def run(self) -> None:
        super().run()
        for path in [] if self.editable_mode else sorted([*ROOT.glob("datasets/*/*.tsv"), *ROOT.glob("datasets/*/*.txt")]):
            target = Path(self.build_lib) / "pc3d" / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


setup(
    ext_modules=[Extension("pc3d._C", sources=[], py_limited_api=True)],
    cmdclass={"build_ext": BuildNative, "build_py": BuildPython},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
