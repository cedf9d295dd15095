"""COLMAP's sparse models, text and binary: world-to-camera poses, pixel middles at .5, no metric scale."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FileError, FormatError, explain
from pc3d.io.files import check_file, read_text
from pc3d.io.frames.poses import from_quaternion, inverse
from pc3d.io.frames.source import Frames, Shot, collect, names_of
from pc3d.structures import Camera, Lens

#: Model id -> (name, number of parameters).
MODELS = {0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8),
          5: ("OPENCV_FISHEYE", 8), 6: ("FULL_OPENCV", 12), 7: ("FOV", 5), 8: ("SIMPLE_RADIAL_FISHEYE", 4),
          9: ("RADIAL_FISHEYE", 5), 10: ("THIN_PRISM_FISHEYE", 12)}
_FOLDERS = ("", "sparse/0", "sparse", "colmap/sparse/0", "colmap")
_IMAGES = ("images", "rgb", "color", ".")


def find_colmap(path: Path) -> Path | None:
    """The folder with cameras and images, .bin or .txt, of one model."""
    for below in _FOLDERS:
        for suffix in (".bin", ".txt"):
            if all((path / below / f"{name}{suffix}").is_file() for name in ("cameras", "images")):
                return path / below
    return None


def read_colmap(path: Path) -> Frames:
    """Read the registered images of a COLMAP model; depth maps of dense/stereo are taken when they are there."""
    model = find_colmap(path)
    if model is None:
        raise FileError(explain("there is no COLMAP model", where=path, expected="cameras.bin and images.bin (or .txt)"))
    binary = (model / "cameras.bin").is_file()
    cameras = _cameras_bin(model / "cameras.bin") if binary else _cameras_txt(model / "cameras.txt")
    rows = sorted(_images_bin(model / "images.bin") if binary else _images_txt(model / "images.txt"), key=lambda row: row[0])
    if not rows:
        raise FormatError(explain("the model has no registered images", where=model))
    quaternions, translations = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    poses = inverse(from_quaternion(quaternions, translations))
    folder = _image_folder(path, rows[0][0])
    depths = path / "stereo" / "depth_maps"
    shots = [Shot(called, cameras.get(camera), folder / name, _depth_map(depths, name), pose)
             for called, (name, camera, _, _), pose in zip(names_of([row[0] for row in rows]), rows, poses)]
    return collect("colmap", path, shots)


def _image_folder(path: Path, name: str) -> Path:
    return next((path / folder for folder in _IMAGES if (path / folder / name).is_file()), path / _IMAGES[0])


def _depth_map(folder: Path, name: str) -> Callable[[], NDArray[np.float32]] | None:
    for kind in ("geometric", "photometric"):
        file = folder / f"{name}.{kind}.bin"
        if file.is_file():
            return partial(read_depth_map, file)
    return None


def read_depth_map(path: Path) -> NDArray[np.float32]:
    """A dense depth map (H, W): "width&height&channels&" and float32; negative depth is none."""
    content = path.read_bytes()
    try:
        head = content[:64].split(b"&", 3)
        width, height, channels = (int(part) for part in head[:3])
        body = content[sum(len(part) + 1 for part in head[:3]):]
        return np.maximum(np.frombuffer(body, "<f4").reshape(channels, height, width)[0], 0)
    except ValueError as error:
        raise FormatError(explain("this is no depth map of COLMAP", where=path, got=str(error))) from error


def _camera(model: str, width: int, height: int, values: list[float], where: object) -> Camera:
    count = 1 if model.startswith("SIMPLE") or model in ("RADIAL", "RADIAL_FISHEYE") else 2
    fx, fy = values[0], values[count - 1]
    cx, cy, rest = values[count] - 0.5, values[count + 1] - 0.5, values[count + 2:]
    fisheye = model.endswith("FISHEYE")
    if model in ("SIMPLE_PINHOLE", "PINHOLE") or (not any(rest) and not fisheye):
        lens = None
    elif model in ("SIMPLE_RADIAL", "RADIAL"):
        lens = Lens(tuple(rest))
    elif model in ("OPENCV", "FULL_OPENCV"):
        lens = Lens((rest[0], rest[1], *rest[4:]), (rest[2], rest[3]))
    elif fisheye and model != "THIN_PRISM_FISHEYE":
        lens = Lens(tuple(rest), fisheye=True)
    else:
        raise FormatError(explain("this camera model is not known", where=where, got=model,
                                  do="Undistort the images with `colmap image_undistorter` first."))
    return Camera(width, height, fx, fy, cx, cy, lens)


def _lines(path: Path) -> list[str]:
    return [line for line in read_text(path).splitlines() if not line.startswith("#")]


def _cameras_txt(path: Path) -> dict[int, Camera]:
    cameras = {}
    for line in filter(str.strip, _lines(path)):
        words = line.split()
        try:
            cameras[int(words[0])] = _camera(words[1], int(words[2]), int(words[3]), [float(w) for w in words[4:]], path)
        except (ValueError, IndexError) as error:
            raise FormatError(explain("a line is no camera", where=path, got=line[:80])) from error
    return cameras


def _images_txt(path: Path) -> Iterator[tuple[str, int, list[float], list[float]]]:
    """(name, camera, quaternion, translation): every second line lists 2D points, and may be empty."""
    lines = _lines(path)
    while lines and not lines[0].strip():
        lines.pop(0)
    for line in lines[::2]:
        words = line.split(maxsplit=9)
        if not words:
            continue
        try:
            yield words[9], int(words[8]), [float(w) for w in words[1:5]], [float(w) for w in words[5:8]]
        except (ValueError, IndexError) as error:
            raise FormatError(explain("a line is no image", where=path, got=line[:80])) from error


def _take(file: BinaryIO, layout: str, path: Path) -> tuple:
    size = struct.calcsize("<" + layout)
    content = file.read(size)
    if len(content) < size:
        raise FormatError(explain("the file ends too early", where=path))
    return struct.unpack("<" + layout, content)


def _cameras_bin(path: Path) -> dict[int, Camera]:
    cameras = {}
    check_file(path)
    with path.open("rb") as file:
        for _ in range(_take(file, "Q", path)[0]):
            number, model, width, height = _take(file, "iiQQ", path)
            if model not in MODELS:
                raise FormatError(explain("this camera model is not known", where=path, got=model))
            name, count = MODELS[model]
            cameras[number] = _camera(name, width, height, list(_take(file, f"{count}d", path)), path)
    return cameras


def _images_bin(path: Path) -> Iterator[tuple[str, int, list[float], list[float]]]:
    size = check_file(path)
    with path.open("rb") as file:
        for _ in range(_take(file, "Q", path)[0]):
            values = _take(file, "i4d3di", path)
            name = bytearray()
            while (letter := file.read(1)) not in (b"\0", b""):
                name += letter
            (points,) = _take(file, "Q", path)
            if file.tell() + 24 * points > size:
                raise FormatError(explain("the file ends inside an image", where=path, got=name.decode("utf-8", "replace")))
            file.seek(24 * points, 1)
            yield name.decode("utf-8", "replace"), values[8], list(values[1:5]), list(values[5:8])
