"""PNG files with nothing but zlib."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, explain
from pc3d.io.files import atomic_file

_COLOR_TYPES = {1: 0, 3: 2, 4: 6}  # number of channels -> grey, RGB, RGBA (PNG specification, table 11.1)


def write_png(path: str | Path, image: NDArray[np.uint8]) -> Path:
    """Write a uint8 image (H, W), (H, W, 3) or (H, W, 4), whole or not at all, and return its path.

    Raises DataError for another type or shape, FileError when the file cannot be written.
    """
    path = Path(path)
    with atomic_file(path) as file:
        file.write(encode_png(image))
    return path


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG file for a uint8 image (H, W), (H, W, 3) or (H, W, 4)."""
    image = np.asarray(image)
    pixels = image[..., None] if image.ndim == 2 else image
    if image.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in _COLOR_TYPES or 0 in pixels.shape:
        raise DataError(explain("this is not a picture", got=f"{image.dtype} {image.shape}",
                                expected="uint8 (H, W), (H, W, 3) or (H, W, 4), not empty"))
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    body = zlib.compress(_filter_up(pixels.reshape(height, -1)).tobytes(), 6)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _filter_up(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Store each row as its difference to the row above (filter 2), which flat pictures compress well under."""
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    return np.hstack([np.full((len(rows), 1), 2, dtype=np.uint8), rows - above])


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
