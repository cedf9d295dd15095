"""Damaged files of every format: whatever bytes flip, only pc3d's own errors come out."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest

from pc3d.errors import Pc3dError
from pc3d.io import read, write
from pc3d.io.ply import write_ply

FORMATS = {"ply": 150, "ascii.ply": 150, "npz": 150, "npy": 150, "xyz": 100, "las": 60, "laz": 60}


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, repeat or splice a few bytes, mostly near the start where the promises are."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        reach = len(changed) if rng.random() < 0.4 else min(len(changed), 400)
        at = int(rng.integers(0, max(reach, 1)))
        match rng.integers(0, 5):
            case 0:
                changed[at:at + 1] = bytes([rng.integers(0, 256)])
            case 1:
                changed[at:at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"-1 \n", b"nan "])
            case 2:
                del changed[at:at + int(rng.integers(1, 40))]
            case 3:
                changed[at:at] = changed[at:at + int(rng.integers(1, 40))]
            case _:
                changed[at:at + 1] = rng.choice([b"9", b"-", b" ", b"\n", b"\x00", b"1e9"])
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_raise_only_our_errors_and_soon(put, tmp_path, scan, name):
    if name.startswith("la"):
        pytest.importorskip("lazrs")
    path = tmp_path / f"good.{name}"
    if name == "ascii.ply":
        write_ply(scan, path, "ascii")
    else:
        write(scan, path)
    data, rng, slowest = path.read_bytes(), np.random.default_rng(7), 0.0
    for _ in range(FORMATS[name]):
        broken = put(f"broken.{name}", damage(data, rng))
        start = time.perf_counter()
        with contextlib.suppress(Pc3dError):
            assert len(read(broken)) > 0
        slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 2
