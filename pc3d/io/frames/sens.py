"""ScanNet's ``.sens``: one file with all frames of a scan, read one frame at a time, and written.

Little-endian: version 4, sensor name, four 4x4 matrices (colour and depth intrinsics and extrinsics), compressions, sizes,
depth shift, number of frames; then per frame the camera-to-world pose, two timestamps, two byte counts and the two images.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import DataError, FormatError, explain, require_package
from pc3d.io.files import atomic_file, check_file, inflate
from pc3d.io.frames.images import open_image
from pc3d.io.frames.source import Frames, Shot, collect
from pc3d.structures import Camera, Frame

VERSION = 4
_COLOURS, _DEPTHS = {0: "raw", 1: "png", 2: "jpeg"}, {0: "raw", 1: "zlib", 2: "occi"}
_HEAD = struct.Struct("<16f4Q")  # pose, two timestamps in microseconds, bytes of colour and depth
_FIXED = struct.Struct("<64f2i4If")
_MAX_FRAMES = 2**24


class SensFile:
    """The index of a ``.sens`` file: one pass over the frame heads; images are read from their place when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file_size = check_file(path)
        with path.open("rb") as file:
            self._read_header(file)
            self.heads = self._walk(file)

    def _read_header(self, file: BinaryIO) -> None:
        version, length = struct.unpack("<IQ", self._take(file, 12))
        if version != VERSION or length > 4096:
            raise FormatError(explain("this is no .sens file of version 4", where=self.path, got=f"version {version}"))
        self.sensor = self._take(file, length).decode("utf-8", "replace")
        values = _FIXED.unpack(self._take(file, _FIXED.size))
        self.color_matrix, _, self.depth_matrix, _ = np.array(values[:64]).reshape(4, 4, 4)
        self.color_compression, self.depth_compression = values[64:66]
        self.color_size, self.depth_size, self.depth_shift = values[66:68], values[68:70], values[70]
        if self.color_compression not in _COLOURS or self.depth_compression not in (0, 1):
            raise FormatError(explain("the images are packed in a way that cannot be read", where=self.path,
                                      got=f"colour {_COLOURS.get(self.color_compression, self.color_compression)}, "
                                          f"depth {_DEPTHS.get(self.depth_compression, self.depth_compression)}",
                                      expected="colour raw, png or jpeg; depth raw or zlib (occi belongs to Occipital's SDK)"))
        if not self.depth_shift > 0:
            raise FormatError(explain("the depth shift must be positive", where=self.path, got=self.depth_shift))

    def _walk(self, file: BinaryIO) -> list[tuple[NDArray[np.float64], int, int, int, int]]:
        """(pose, time, place of the images, bytes of colour, bytes of depth) of each frame."""
        (count,) = struct.unpack("<Q", self._take(file, 8))
        if count > min(_MAX_FRAMES, self.file_size // _HEAD.size):
            raise FormatError(explain("the file promises more frames than it can hold", where=self.path,
                                      got=f"{count} frames in {self.file_size} bytes"))
        heads = []
        for frame in range(count):
            values = _HEAD.unpack(self._take(file, _HEAD.size, f"frame {frame}"))
            place, colour, depth = file.tell(), values[18], values[19]
            if place + colour + depth > self.file_size:
                raise FormatError(explain("the file ends inside a frame", where=f"{self.path}:frame {frame}",
                                          got=f"{self.file_size} bytes", expected=f"{place + colour + depth} or more",
                                          do="The download stopped early; get it again."))
            heads.append((np.array(values[:16], dtype=np.float64).reshape(4, 4), values[16], place, colour, depth))
            file.seek(colour + depth, 1)
        return heads

    def _take(self, file: BinaryIO, count: int, what: str = "header") -> bytes:
        content = file.read(count)
        if len(content) < count:
            raise FormatError(explain("the file ends too early", where=f"{self.path}:{what}", got=f"{self.file_size} bytes"))
        return content

    def read_rgb(self, frame: int) -> NDArray[np.uint8]:
        """Colour image (H, W, 3) of one frame."""
        _, _, place, count, _ = self.heads[frame]
        content, shape = self._read(place, count), (self.color_size[1], self.color_size[0], 3)
        if self.color_compression == 0:
            return self._shaped(np.frombuffer(content, np.uint8), shape, frame)
        image = open_image(self.path, lambda image: np.asarray(image.convert("RGB"), np.uint8), io.BytesIO(content))
        return self._shaped(image, shape, frame)

    def read_depth(self, frame: int) -> NDArray[np.float32]:
        """Depth image (H, W) of one frame in metres."""
        _, _, place, colour, count = self.heads[frame]
        content = self._read(place + colour, count)
        if self.depth_compression == 1:
            try:
                content = inflate(content, 2 * self.depth_size[0] * self.depth_size[1])
            except zlib.error as error:
                raise FormatError(explain("the depth image is damaged", where=f"{self.path}:frame {frame}",
                                          got=str(error))) from error
        steps = np.frombuffer(content[:len(content) // 2 * 2], "<u2")
        return self._shaped(steps, self.depth_size[::-1], frame).astype(np.float32) / np.float32(self.depth_shift)

    def _read(self, place: int, count: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(place)
            return file.read(count)

    def _shaped(self, values: NDArray[Any], shape: tuple[int, ...], frame: int) -> NDArray[Any]:
        if values.size != np.prod(shape):
            raise FormatError(explain("an image has another size than the header says", where=f"{self.path}:frame {frame}",
                                      got=f"{values.size} values", expected=f"{shape}"))
        return values.reshape(shape)


def find_sens(path: Path) -> Path | None:
    """The ``.sens`` file itself, or the only one in a folder."""
    if path.suffix.lower() == ".sens":
        return path
    inside = sorted(path.glob("*.sens")) if path.is_dir() else []
    return inside[0] if len(inside) == 1 else None


def read_sens(path: Path) -> Frames:
    """Read the frames of a ``.sens`` file lazily; frames whose pose ScanNet lost (-inf) are skipped."""
    file = SensFile(find_sens(path) or path)
    camera = Camera.from_matrix(file.color_matrix, *file.color_size) if min(file.color_size) > 0 else None
    depth_camera = Camera.from_matrix(file.depth_matrix, *file.depth_size) if min(file.depth_size) > 0 else camera
    shots = [Shot(str(frame), camera or depth_camera, partial(file.read_rgb, frame) if colour else None,
                  partial(file.read_depth, frame) if depth else None, pose, depth_camera, timestamp=time * 1e-6)
             for frame, (pose, time, _, colour, depth) in enumerate(file.heads)]
    return collect("sens", file.path, shots)


def write_sens(path: Path, frames: Iterable[Frame], sensor: str = "StructureSensor", quality: int = 95) -> None:
    """Write frames as ScanNet does: JPEG colours, zlib-packed millimetres, version 4, no IMU; depth beyond 65.535 m is none.

    Raises DataError where frames have no depth, a lens, or other cameras than the first: a file has room for one pair.
    """
    require_package("PIL", extra="viz", purpose="writing images")
    shots = list(frames)
    if not shots:
        raise FormatError(explain("there are no frames to write", where=path))
    camera, depth_camera = shots[0].camera, shots[0].depth_camera
    for shot in shots:
        if (shot.camera, shot.depth_camera) != (camera, depth_camera) or camera.lens or depth_camera.lens:
            raise DataError(explain("a .sens file has one pinhole camera for colour and one for depth",
                                    where=f"frame {shot.name}", got=f"{shot.camera}, {shot.depth_camera}",
                                    expected=f"{camera}, {depth_camera}"))
    intrinsics = [_square(camera.matrix), np.eye(4), _square(depth_camera.matrix), np.eye(4)]
    with atomic_file(path) as file:
        file.write(struct.pack("<IQ", VERSION, len(sensor)) + sensor.encode())
        file.write(_FIXED.pack(*np.concatenate([m.ravel() for m in intrinsics]), 2, 1, camera.width, camera.height,
                               depth_camera.width, depth_camera.height, 1000.0))
        file.write(struct.pack("<Q", len(shots)))
        for index, shot in enumerate(shots):
            colour, depth = _jpeg(shot.rgb, quality), zlib.compress(_millimetres(shot.depth).tobytes())
            time = int(1e6 * (index / 30 if shot.timestamp is None else shot.timestamp))
            file.write(_HEAD.pack(*shot.T_world_camera.ravel(), time, time, len(colour), len(depth)) + colour + depth)
        file.write(struct.pack("<Q", 0))


def _millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    steps = np.rint(depth * 1000)
    return np.where((steps >= 0) & (steps <= 65535), steps, 0).astype("<u2")


def _square(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    full = np.eye(4)
    full[:3, :3] = matrix
    return full


def _jpeg(rgb: NDArray[np.uint8], quality: int) -> bytes:
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(rgb).save(packed, "JPEG", quality=quality)
    return packed.getvalue()
