"""A few bytes must not cost gigabytes or minutes: promises are held against the file before anything is allocated."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest

from pc3d.errors import FormatError
from pc3d.io import read

XYZ = "property float x\nproperty float y\nproperty float z\n"


def npy_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def las_header(count: int, *, format_: int = 6, row: int = 30, records: int = 0, late: tuple[int, int] = (0, 0)) -> bytes:
    head = bytearray(375)
    head[:4], head[24:26] = b"LASF", bytes([1, 4])
    struct.pack_into("<HIIBH", head, 94, 375, 375, records, format_, row)
    struct.pack_into("<3d", head, 131, 0.001, 0.001, 0.001)
    struct.pack_into("<QIQ", head, 235, *late, count)
    return bytes(head)


def ply(elements: str) -> bytes:
    return f"ply\nformat binary_little_endian 1.0\n{elements}end_header\n".encode()


BOMBS = {
    "vertices.ply": ply(f"element vertex 1000000000000\n{XYZ}"),
    "ascii.ply": ply(f"element vertex 1000000000\n{XYZ}").replace(b"binary_little_endian", b"ascii"),
    "empty_rows.ply": ply("element vertex 1000000000\n"),
    "empty_other_rows.ply": ply(f"element vertex 1\n{XYZ}element user 1000000000\n") + bytes(12),
    "faces.ply": ply(f"element vertex 1\n{XYZ}element face 4000000000\nproperty list uchar int vertex_indices\n") + bytes(12),
    "list.ply": ply(f"element vertex 1\n{XYZ}element face 1\nproperty list uint int vertex_indices\n") + bytes(12)
    + struct.pack("<I3i", 200_000_000, 0, 0, 0),
    "comment.ply": b"ply\ncomment " + b"x" * 5_000_000 + b"\nend_header\n",
    "header.ply": b"ply\nformat ascii 1.0\n" + b"element e 0\n" * 100_000,
    "shape.npy": npy_header((10**12, 3)),
    "shape.npz": zipped({"xyz.npy": npy_header((10**12, 3))}),
    "overflow.npz": zipped({"xyz.npy": npy_header((2**40, 2**40))}),
    "ratio.npz": zipped({"xyz.npy": npy_header((8_000_000, 3)) + bytes(96_000_000)}),
    "members.npz": zipped({f"a{i}.npy": b"" for i in range(1001)}),
    "points.las": las_header(2**40),
    "points.laz": las_header(2**40, format_=6 | 0x80),
    "records.las": las_header(1, records=2**31),
    "late_records.las": las_header(1, late=(375, 2**31)) + bytes(64),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_size_bomb_is_refused_at_once_and_for_little_memory(put, name):
    path = put(name, BOMBS[name])
    with pytest.raises(FormatError):        # imports and caches are not what is measured
        read(path)
    start = time.perf_counter()
    with pytest.raises(FormatError):
        read(path)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    with pytest.raises(FormatError):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 0.05
    assert peak < 20e6


def test_constant_columns_may_pack_well(tmp_path):
    path = tmp_path / "flat.npz"
    np.savez_compressed(path, xyz=np.zeros((100_000, 3), np.float32), label=np.zeros(100_000, np.int64))
    assert path.stat().st_size * 100 < 100_000 * 20
    assert len(read(path)) == 100_000
