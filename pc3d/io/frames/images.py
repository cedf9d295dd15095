"""Colour and depth images, opened when they are needed, with errors that name the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FileError, FormatError, explain, require_package
from pc3d.io.files import check_file, check_folder
from pc3d.structures import Camera

COLOUR_SUFFIXES = (".jpg", ".jpeg", ".png")
DEPTH_SUFFIXES = (".png", ".pgm", ".tif", ".tiff", ".npy")


def natural(path: Path) -> list[tuple[int, Any]]:
    """Sort key in which 9 comes before 10."""
    parts = re.split(r"([0-9]+)", path.stem)
    return [(i % 2, int(part) if i % 2 else part) for i, part in enumerate(parts)]


def list_images(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files with these suffixes in the order of their numbers; FileError where there are none."""
    check_folder(folder)
    files = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    if not files:
        patterns = " or ".join(f"*{suffix}" for suffix in suffixes)
        raise FileError(explain("the folder holds no such files", where=folder, expected=patterns))
    return sorted(files, key=natural)


def image_size(path: Path) -> tuple[int, int]:
    """Width and height, without decoding the image."""
    if path.suffix.lower() == ".npy":
        shape = _load_array(path, mmap_mode="r").shape
        return shape[1], shape[0]
    return open_image(path, lambda image: image.size)


def read_rgb(path: Path, camera: Camera) -> NDArray[np.uint8]:
    """Colour image (H, W, 3)."""
    return check_size(path, camera, open_image(path, lambda image: np.asarray(image.convert("RGB"), dtype=np.uint8)))


def read_depth(path: Path, camera: Camera, unit: float) -> NDArray[np.float32]:
    """Depth image (H, W) in metres from steps of ``unit`` metres; float images in metres are taken as they are."""
    depth = _load_array(path) if path.suffix.lower() == ".npy" else open_image(path, np.asarray)
    depth = check_size(path, camera, depth)
    if depth.ndim == 2 and depth.dtype.kind == "f":
        return np.nan_to_num(depth.astype(np.float32), posinf=0, neginf=0)
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.int32):
        raise FormatError(explain("this is no depth image", where=path, got=f"{depth.dtype} {depth.shape}",
                                  expected="one channel of 16 bits"))
    return depth.astype(np.float32) * np.float32(unit)


def _load_array(path: Path, mmap_mode: Literal["r"] | None = None) -> NDArray[Any]:
    """The image of an .npy file; or FormatError."""
    check_file(path)
    try:
        image: NDArray[Any] = np.load(path, mmap_mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(explain("the image cannot be read", where=path, got=str(error))) from error
    if image.ndim != 2:
        raise FormatError(explain("this is no depth image", where=path, got=f"{image.dtype} {image.shape}", expected="(H, W)"))
    return image


def open_image(path: Path, take: Callable[[Any], Any], content: BinaryIO | None = None) -> Any:
    """Open an image with Pillow, from ``content`` of the file when given, and take something of it; or FormatError."""
    require_package("PIL", extra="viz", purpose="reading images")
    from PIL import Image

    check_file(path)
    try:
        with Image.open(content or path) as image:
            return take(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError(explain("the image cannot be read", where=path, got=str(error),
                                  do="The file was cut off or is damaged; copy it again.")) from error


def check_size(path: Path, camera: Camera, image: NDArray[Any]) -> NDArray[Any]:
    """The image, when it has the size its camera speaks of."""
    if image.shape[:2] != (camera.height, camera.width):
        raise FormatError(explain("the image has another size than the first", where=path,
                                  got=f"{image.shape[1]}x{image.shape[0]}", expected=f"{camera.width}x{camera.height}"))
    return image
