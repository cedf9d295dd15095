"""ScanNet++'s iPhone recordings: pose_intrinsic_imu.json, with images and depth extracted or still packed."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FileError, FormatError, explain, require_package
from pc3d.io.files import inflate, read_json
from pc3d.io.frames.images import image_size
from pc3d.io.frames.source import Frames, Shot, collect
from pc3d.structures import Camera

POSES = "pose_intrinsic_imu.json"
DEPTH_WIDTH, DEPTH_HEIGHT = 256, 192
RGB_WIDTH, RGB_HEIGHT = 1920, 1440


def find_scannetpp(path: Path) -> Path | None:
    """The iphone folder: itself, or that of a scene."""
    return next((folder for folder in (path, path / "iphone") if (folder / POSES).is_file()), None)


def read_scannetpp(path: Path) -> Frames:
    """Read a ScanNet++ iPhone recording with its poses aligned to the laser scan.

    Images come from rgb/frame_*.jpg, as the toolkit extracts them; depth from depth/frame_*.png, or from depth.bin itself.
    """
    folder = find_scannetpp(path)
    if folder is None:
        raise FileError(explain("there is no such file", where=path / "iphone" / POSES))
    records = read_json(folder / POSES)
    if not isinstance(records, dict):
        raise FormatError(explain("there are no poses by frame", where=folder / POSES, got=f"a {type(records).__name__}",
                                  expected='{"frame_000000": {"pose": ..., "intrinsic": ...}, ...}'))
    images = folder / "rgb"
    if not images.is_dir():
        raise FileError(explain("the images are still in the video", where=folder / "rgb.mkv",
                                do=f"Extract them: ffmpeg -i rgb.mkv -start_number 0 -q:v 1 {images}/frame_%06d.jpg"))
    depths = _depths(folder)
    shots = [_shot(folder, name, records[name], depths) for name in sorted(records)]
    return collect("scannet++", folder, shots)


def _shot(folder: Path, name: str, record: Any, depths: Callable[[str], Any]) -> Shot:
    image = next((p for s in (".jpg", ".png") if (p := folder / "rgb" / f"{name}{s}").is_file()), None)
    try:
        pose = np.array(record.get("aligned_pose", record["pose"]), dtype=np.float64).reshape(4, 4)
        matrix = np.array(record["intrinsic"], dtype=np.float64).reshape(3, 3)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(explain("a frame lacks pose or intrinsic", where=f"{folder / POSES}:{name}",
                                  got=repr(error))) from error
    if image is None:
        return Shot(name, None, None)
    camera = Camera.from_matrix(matrix, RGB_WIDTH, RGB_HEIGHT).resized(*image_size(image))
    return Shot(name, camera, image, depths(name), pose, camera.resized(DEPTH_WIDTH, DEPTH_HEIGHT),
                timestamp=record.get("timestamp"))


def _depths(folder: Path) -> Callable[[str], Any]:
    """How to get the depth of a frame by its name; None where the recording has none."""
    if (folder / "depth").is_dir():
        return lambda name: folder / "depth" / f"{name}.png"
    if (folder / "depth.bin").is_file():
        packed = PackedDepth(folder / "depth.bin")
        return lambda name: partial(packed.read, name)
    return lambda name: None


class PackedDepth:
    """depth.bin: per frame a byte count and an LZ4 block of millimetres or a deflate stream of metres."""

    def __init__(self, path: Path) -> None:
        self.path, self.places = path, []
        size = path.stat().st_size
        with path.open("rb") as file:
            while file.tell() + 4 <= size:
                (count,) = struct.unpack("<I", file.read(4))
                self.places.append((file.tell(), count))
                file.seek(count, 1)
        if not self.places or self.places[-1][0] + self.places[-1][1] != size:
            raise FormatError(explain("depth.bin is not packed frame by frame", where=path,
                                      do="Extract it with the ScanNet++ toolkit into depth/frame_%06d.png."))

    def read(self, name: str) -> NDArray[np.float32]:
        """Depth (H, W) in metres of the frame whose number a name ends with."""
        number = name.rsplit("_", 1)[-1]
        if not number.isdecimal() or int(number) >= len(self.places):
            raise FormatError(explain("there is no depth for the frame", where=f"{self.path}:{name}",
                                      got=f"{len(self.places)} frames"))
        place, count = self.places[int(number)]
        with self.path.open("rb") as file:
            file.seek(place)
            content = file.read(count)
        pixels = DEPTH_WIDTH * DEPTH_HEIGHT
        try:
            values = np.frombuffer(inflate(content, 4 * pixels, wbits=-zlib.MAX_WBITS), "<f4").astype(np.float32)
        except (zlib.error, ValueError):
            values = self._lz4(content, name)
        if values.size != pixels:
            raise FormatError(explain("a depth image has another size", where=f"{self.path}:{name}", got=values.size))
        return np.nan_to_num(values.reshape(DEPTH_HEIGHT, DEPTH_WIDTH))

    def _lz4(self, content: bytes, name: str) -> NDArray[np.float32]:
        require_package("lz4.block", extra="lift", purpose="reading depth.bin of ScanNet++")
        import lz4.block

        try:
            steps = lz4.block.decompress(content, uncompressed_size=2 * DEPTH_WIDTH * DEPTH_HEIGHT)
            return np.frombuffer(steps, "<u2").astype(np.float32) * np.float32(0.001)
        except (lz4.block.LZ4BlockError, ValueError) as error:
            raise FormatError(explain("the depth image is damaged", where=f"{self.path}:{name}", got=str(error))) from error
