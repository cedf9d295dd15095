"""Builds the CUDA side of csrc/ for the CPU: launches are rewritten, the rest is compiled as it stands; see machine.cpp."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CSRC = ROOT / "csrc"
KERNELS = ("segment", "asam_pool", "relation_bias", "relative", "sparse_map")
DISPATCH = ("segment", "asam_pool", "relation_bias", "relative", "sparse_map_cuda")
TORCH = Path(torch.__file__).parent
FLAGS = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-ffunction-sections", "-fdata-sections", "-w",
         "-U_FORTIFY_SOURCE", "-DTORCH_TARGET_VERSION=0x020A000000000000", f"-I{HERE}", f"-isystem{TORCH / 'include'}"]
FEWER = {"asam_pool.cu": ("max_blocks = 1024;", "max_blocks = 2;"), "each.cuh": ("int64_t(1) << 30;", "3;")}
SHARED = re.compile(r"__shared__ ([\w:]+) (\w+)((?:\[[^\]\n]+\])+);")
DYNAMIC = re.compile(r"extern __shared__ (\w+) (\w+)\[\];")
LAUNCH = re.compile(r"([\w:]+(?:<[\w:, ]+>)?)<<<")


def rewrite(text: str) -> str:
    """Shared arrays and launches of a .cu or .cuh file as calls of cuda_runtime_api.h; ValueError for what is not known."""
    text = DYNAMIC.sub(r"\1* const \2 = static_cast<\1*>(::cuda_on_cpu::dynamic_shared());", text)
    text = SHARED.sub(r"auto& \2 = ::cuda_on_cpu::shared<\1\3>(__FILE__, __LINE__);", text)
    while launch := LAUNCH.search(text):
        *configuration, end = split(text, launch.end(), ">>>")
        if len(configuration) != 4 or text[end] != "(":
            raise ValueError(f"a launch has four values and arguments: {text[launch.start():end + 1]}")
        *arguments, after = split(text, end + 1, ")")
        grid, block, size, stream = configuration
        kernel = "nullptr" if size == "0" else f"reinterpret_cast<const void*>(&{launch[1]})"
        call = f"[](auto... each) {{ {launch[1]}(each...); }}"
        values = ", ".join([grid, block, size, stream, kernel, call, *filter(None, arguments)])
        text = f"{text[:launch.start()]}::cuda_on_cpu::launch({values}){text[after:]}"
    code = re.sub(r"//.*", "", text)
    if left := [word for word in ("<<<", ">>>", "__shared__", "asm") if word in code]:
        raise ValueError(f"what is this: {left}")
    return text


def split(text: str, start: int, close: str) -> list:
    """The parts between commas from ``start`` to ``close``, and the place after it."""
    parts, depth, at = [""], 0, start
    while depth or not text.startswith(close, at):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if text[at] == "," and not depth:
            parts.append("")
        else:
            parts[-1] += text[at]
        at += 1
    return [*(re.sub(r"\s+", " ", part).strip() for part in parts), at + len(close)]


def jobs(folder: Path) -> list[tuple[Path, list[str]]]:
    """Source and flags of every file to compile; rewritten ones are put into ``folder``."""
    for path in (HERE / "faults.cu", CSRC / "each.cuh", *(CSRC / f"{name}.cu" for name in KERNELS)):
        before, after = FEWER.get(path.name, ("", ""))  # so few blocks that each comes to go through its loop
        if before not in path.read_text():
            raise ValueError(f"{path.name} has no {before}")
        (folder / path.name).write_text(rewrite(path.read_text().replace(before, after)))
    kernel = ["-O1", "-x", "c++", "-D__CUDACC__", "-D__CUDA_ARCH__=900", "-include", "cuda_runtime_api.h"]
    dispatch = ["-DPC3D_CUDA", "-include", "torch_on_cpu.h"]
    return [*((folder / f"{name}.cu", kernel) for name in ("faults", *KERNELS)),
            *((CSRC / f"{name}.cpp", dispatch) for name in DISPATCH),
            (HERE / "machine.cpp", ["-O1"]), (HERE / "torch_on_cpu.cpp", [])]


def compile_all(folder: Path, library: Path) -> None:
    """Make the library in ``folder``."""
    todo = jobs(folder)

    def run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr[:4000]}")

    compiler = shutil.which("c++") or "c++"
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: run(compiler, *FLAGS, f"-I{folder}", f"-I{CSRC}", *job[1], "-c", str(job[0]), "-o",
                                      str(folder / f"{job[0].name}.o")), todo))
    objects = [str(folder / f"{source.name}.o") for source, _ in todo]
    run(compiler, "-shared", "-Wl,--gc-sections,--no-undefined,-Bsymbolic", *objects, f"-L{TORCH / 'lib'}", "-ltorch_cpu",
        "-lc10", "-o", str(library))


def build() -> Path:
    """The library, made anew where a source, a flag or torch is another than before; one process at a time."""
    sources = sorted([*CSRC.iterdir(), *(path for path in HERE.iterdir() if path.is_file())])
    digest = hashlib.sha256(repr((FLAGS, torch.__version__, sysconfig.get_platform())).encode())
    for path in sources:
        digest.update(path.read_bytes())
    folder = ROOT / "build" / "cuda_on_cpu"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        library = folder / f"{digest.hexdigest()[:16]}.so"
        if not library.exists():
            for old in folder.glob("*.so"):
                old.unlink()
            compile_all(folder, library.with_suffix(".new"))
            library.with_suffix(".new").rename(library)
    return library
