"""The native build: it serves every torch, and a machine without a compiler still gets a working pc3d."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from unittest import mock

import pytest
import torch

from pc3d.ops import _library

ROOT = Path(__file__).resolve().parent.parent
CUDA_SOURCES = sorted((ROOT / "csrc").glob("*.cu"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the build needs, with the smallest source only."""
    (tmp_path / "csrc").mkdir()
    (tmp_path / "pc3d").mkdir()
    for name in ("setup.py", "csrc/pc3d.h", "csrc/isa.cpp"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def build(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=checkout, text=True,
                          capture_output=True, env={**os.environ, "PC3D_CUDA": "0", **environment})


def write_script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")


def assert_survived(done: subprocess.CompletedProcess[str], checkout: Path, reason: str) -> None:
    assert done.returncode == 0
    assert "the native library was not built; pc3d works without it, several times slower" in done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not (checkout / _library.LIBRARY_PATH.relative_to(ROOT)).exists()


def test_an_install_without_any_compiler_succeeds_and_says_what_it_costs(checkout: Path) -> None:
    assert_survived(build(checkout, PATH="/nonexistent", CXX=""), checkout, "no C++ compiler found")


def test_a_named_compiler_that_is_missing_is_named(checkout: Path) -> None:
    assert_survived(build(checkout, CXX="/nonexistent/c++ -m64"), checkout, "CXX=/nonexistent/c++ was not found")


@needs_compiler
def test_a_failed_compilation_shows_the_compilers_words(checkout: Path) -> None:
    (checkout / "csrc" / "isa.cpp").write_text("#error the sky is falling\n")
    assert_survived(build(checkout), checkout, "the sky is falling")


def test_the_build_can_be_switched_off(checkout: Path) -> None:
    done = build(checkout, PC3D_NATIVE="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (checkout / "build").exists()


@needs_compiler
def test_a_cuda_toolkit_that_fails_leaves_the_cpu_library(checkout: Path) -> None:
    nvcc = checkout / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    write_script(nvcc, "echo unsupported host compiler >&2; exit 1")
    (checkout / "cuda" / "lib64").mkdir()
    (checkout / "cuda" / "lib64" / "libcudart_static.a").touch()
    (checkout / "csrc" / "kernel.cu").touch()
    done = build(checkout, PC3D_CUDA="1", CUDA_HOME=str(checkout / "cuda"))
    assert "the CUDA kernels were not built" in done.stderr
    assert "unsupported host compiler" in done.stderr
    library = checkout / "pc3d" / "_C.abi3.so"
    code = f"import torch; torch.ops.load_library({str(library)!r}); print(torch.ops.pc3d.native_features())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "0\n"


@needs_compiler
@pytest.mark.skipif(sys.platform != "linux", reason="a question of ELF linkers")
@pytest.mark.parametrize("linker", ["--as-needed", "--no-as-needed"])
def test_the_library_asks_for_libtorch_which_brings_torchs_cuda_side(checkout: Path, linker: str) -> None:
    """Nothing is taken from libtorch.so itself: a linker may leave such a library out unless told to keep it."""
    build(checkout, CXX=f"c++ -Wl,{linker}")
    assert b"\0libtorch.so\0" in (checkout / _library.LIBRARY_PATH.relative_to(ROOT)).read_bytes()


@needs_compiler
def test_an_unchanged_source_is_not_compiled_again(checkout: Path) -> None:
    build(checkout)
    objects = sorted((checkout / "build").rglob("*.o"))
    before = [path.stat().st_mtime_ns for path in objects]
    build(checkout)
    assert objects
    assert [path.stat().st_mtime_ns for path in objects] == before


@needs_compiler
def test_another_compiler_or_other_flags_compile_everything_again(checkout: Path) -> None:
    compiler = checkout / "compiler"
    write_script(compiler, f'echo call >> {checkout}/calls; [ "$1" = --version ] && cat {checkout}/version || exec c++ "$@"')

    def times_called(**environment: str) -> int:
        (checkout / "calls").write_text("")
        build(checkout, **environment)
        return len((checkout / "calls").read_text().splitlines()) - 1  # but for --version

    (checkout / "version").write_text("1.0\n")
    compile_and_link = 2
    assert times_called(CXX=str(compiler)) == compile_and_link
    assert times_called(CXX=str(compiler)) == 0
    (checkout / "version").write_text("2.0\n")
    assert times_called(CXX=str(compiler)) == compile_and_link
    assert times_called(CXX=f"{compiler} -DMORE") == compile_and_link


@needs_compiler
def test_a_failed_build_is_tried_again_when_a_compiler_is_there(checkout: Path) -> None:
    assert_survived(build(checkout, PATH="/nonexistent", CXX=""), checkout, "no C++ compiler found")
    build(checkout)
    assert (checkout / "pc3d" / "_C.abi3.so").exists()


def test_a_checkout_without_native_code_says_so(checkout: Path) -> None:
    (checkout / "csrc" / "isa.cpp").unlink()
    assert_survived(build(checkout), checkout, "there is no C++ source in")


def test_gpu_archs_and_the_version_of_nvcc_are_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mock.patch("setuptools.setup"):
        functions = runpy.run_path(str(ROOT / "setup.py"))
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    torch_folder = functions["torch_folder"]()

    def key(archs: list[str], version: str) -> str:
        write_script(nvcc, f"echo {version}")
        return functions["build_key"]([functions["gencode"](archs)], torch_folder, ["true"], tmp_path)

    assert key(["80", "90"], "12") == key(["80", "90"], "12")
    assert len({key(["80", "90"], "12"), key(["80"], "12"), key(["80", "90"], "13")}) == 3


@pytest.mark.parametrize(("libraries", "headers"), [
    ("cuda/lib64", "cuda/include"), ("cuda/targets/sbsa-linux/lib", "cuda/targets/sbsa-linux/include"),
    ("system/x86_64-linux-gnu", None)], ids=["NVIDIA's", "conda's", "Debian's"])
def test_the_cuda_runtime_is_found_where_toolkits_keep_it(tmp_path: Path, libraries: str, headers: str | None) -> None:
    with mock.patch("setuptools.setup"):
        functions = runpy.run_path(str(ROOT / "setup.py"))
    home, system = tmp_path / "cuda", tmp_path / "system"
    with pytest.raises(RuntimeError, match=r"there is no libcudart_static\.a in .*conda install cuda-cudart-static"):
        functions["cudart_folder"](home, system)
    assert functions["cuda_headers"](home) is None
    for folder, file in ((libraries, "libcudart_static.a"), (headers, "cuda_runtime_api.h")):
        if folder:
            (tmp_path / folder).mkdir(parents=True)
            (tmp_path / folder / file).touch()
    assert functions["cudart_folder"](home, system) == tmp_path / libraries
    assert functions["cuda_headers"](home) == (tmp_path / headers if headers else None)


def test_a_source_distribution_holds_the_native_code_and_the_configs(tmp_path: Path) -> None:
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "csrc", "configs"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "pc3d", tmp_path / "pc3d", ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.safetensors"))
    command = [sys.executable, "setup.py", "-q", "sdist", "--formats", "tar"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with tarfile.open(next((tmp_path / "dist").glob("*.tar"))) as archive:
        held = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = [path.relative_to(ROOT).as_posix() for folder in ("csrc", "configs") for path in (ROOT / folder).iterdir()]
    assert {*wanted, "LICENSE", "setup.py", "pc3d/data/demo_room.ply"} <= held


def test_without_the_library_ops_run_their_reference_and_warn_once(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.ply", "*.safetensors")
    shutil.copytree(ROOT / "pc3d", tmp_path / "pc3d", ignore=ignored)
    code = ("import torch; from pc3d.ops import _library; from pc3d.ops.knn import knn\n"
            "print(_library.native_error(), knn(torch.tensor([[0., 0, 0], [1, 0, 0], [3, 0, 0]]), 1).tolist())")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "_C.abi3.so was not built [[1], [0], [1]]\n"
    assert done.stderr.count("pc3d runs its torch reference ops") == 1
    assert "pc3d doctor" in done.stderr


@pytest.mark.skipif(_library.native_error() is not None, reason="the native library was not built here")
class TestBuiltLibrary:
    def test_it_names_a_known_instruction_set(self) -> None:
        assert torch.ops.pc3d.native_isa() in range(5)

    def test_the_environment_lowers_the_instruction_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PC3D_ISA", "plain")
        assert torch.ops.pc3d.native_isa() == 0

    @pytest.mark.skipif(not CUDA_SOURCES or shutil.which("nvcc") is None, reason="no nvcc here, or no CUDA source")
    def test_with_nvcc_the_cuda_ops_register_on_a_machine_without_a_gpu(self) -> None:
        assert torch.ops.pc3d.native_features() & 1
        import pc3d.ops  # noqa: F401  defines the schemas

        with_kernel = {name for name in _library.known_ops() if _library.has_kernel(name, "CUDA")}
        assert len(with_kernel) >= len(CUDA_SOURCES)

    @pytest.mark.skipif(not CUDA_SOURCES or shutil.which("nvcc") is None, reason="no nvcc here, or no CUDA source")
    def test_the_library_holds_code_for_the_stated_gpus_and_ptx_for_later_ones(self) -> None:
        assert torch.ops.pc3d.native_archs() == 80090
        content = _library.LIBRARY_PATH.read_bytes()
        assert b"sm_80" in content
        assert b"sm_90" in content
        if shutil.which("cuobjdump"):  # the PTX is compressed: only this tool sees it, and not every toolkit brings it
            command = ["cuobjdump", "--list-ptx", str(_library.LIBRARY_PATH)]
            assert ".sm_90.ptx" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
