"""With nvcc at hand the library carries CUDA kernels, on a machine without a GPU or driver too."""

from __future__ import annotations

import runpy
import struct
from pathlib import Path
from unittest import mock

import pytest
import torch

import pc3d.ops  # noqa: F401  defines the ops
from pc3d.ops._library import LIBRARY_PATH, has_kernel, known_ops, native_error

ROOT = Path(__file__).resolve().parents[2]
CUDA_OPS = ("asam_pool", "asam_pool_grad", "segment_sum", "segment_max", "relative_read", "relative_add", "relation_bias",
            "relation_bias_grad", "sparse_kernel_map", "sparse_coarse_keys", "sparse_conv_tiled",
            "sparse_conv_tiled_weight_grad")
PTX, MACHINE_CODE = 1, 2


def cuda_home() -> Path | None:
    with mock.patch("setuptools.setup"):
        return runpy.run_path(str(ROOT / "setup.py"))["cuda_home"]()


def fat_binary_entries(library: bytes) -> set[tuple[int, int]]:
    """Kind and arch of every piece of GPU code, read from the fat binaries: cuobjdump is often not installed."""
    magic, entries, at = struct.pack("<I", 0xBA55ED50), set(), -1
    while (at := library.find(magic, at + 1)) >= 0:
        _, _, header_size, total = struct.unpack_from("<IHHQ", library, at)
        piece, end = at + header_size, at + header_size + total
        while piece < min(end, len(library) - 32):
            kind, _, piece_header, size = struct.unpack_from("<HHIQ", library, piece)
            entries.add((kind, struct.unpack_from("<I", library, piece + 28)[0]))
            piece += piece_header + size
    return entries


pytestmark = [
    pytest.mark.skipif(native_error() is not None, reason="the native library was not built here"),
    pytest.mark.skipif(cuda_home() is None, reason="no CUDA toolkit here"),
]


def test_the_library_was_built_with_its_cuda_kernels() -> None:
    assert torch.ops.pc3d.native_features() & 1


@pytest.mark.parametrize(("kind", "arch"), [(MACHINE_CODE, 80), (MACHINE_CODE, 90), (PTX, 90)])
def test_it_holds_code_for_each_gpu_and_ptx_for_later_ones(kind: int, arch: int) -> None:
    assert (kind, arch) in fat_binary_entries(LIBRARY_PATH.read_bytes())


@pytest.mark.parametrize("op", CUDA_OPS)
def test_cuda_kernels_are_registered(op: str) -> None:
    assert op in known_ops()
    assert has_kernel(op, "CUDA")
