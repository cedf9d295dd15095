"""Posed RGB-D frames from a plain folder: color/, depth/ (uint16 millimetres), K.txt, poses.txt or pose/*.txt.

ScanNet's exported layout (intrinsic/intrinsic_color.txt, intrinsic/intrinsic_depth.txt) is the same folder by other names.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FileError, FormatError, explain, require_package
from pc3d.io.files import check_file, check_folder
from pc3d.structures import Camera, Frame

COLOUR_SUFFIXES = {".png", ".jpg", ".jpeg"}
COLOUR_INTRINSICS = ("K.txt", "K_color.txt", "intrinsic/intrinsic_color.txt")
DEPTH_INTRINSICS = ("K_depth.txt", "intrinsic/intrinsic_depth.txt")
MILLIMETRE = np.float32(0.001)


def read_frames(folder: str | Path) -> list[Frame]:
    """Read F posed RGB-D frames in the order of their numbers; images are opened when asked for.

    Poses are camera-to-world, metres, OpenCV axes. Frames whose pose is not a finite rigid motion (lost tracking) are left out
    with a warning. Raises FileError or FormatError when files are missing, do not match in number, or cannot be read.
    """
    require_package("PIL", extra="viz", purpose="reading images")
    folder = check_folder(Path(folder))
    colours = _list_files(folder / "color", COLOUR_SUFFIXES)
    depths = _list_files(folder / "depth", {".png"})
    poses = _read_poses(folder)
    _check_pairs(folder, colours, depths, poses)
    camera, depth_camera = _cameras(folder, colours[0], depths[0])
    valid = [i for i, pose in enumerate(poses) if _is_rigid(pose)]
    if not valid:
        raise FormatError(explain("no frame has a valid pose", where=folder, got=f"{len(poses)} poses",
                                  expected="camera-to-world matrices with a rotation"))
    if len(valid) < len(poses):
        warnings.warn(f"{folder}: {len(poses) - len(valid)} of {len(poses)} frames have no valid pose and are left out",
                      stacklevel=2)
    return [Frame(name=colours[i].stem, camera=camera, depth_camera=depth_camera, T_world_camera=poses[i],
                  read_rgb=partial(_read_rgb, colours[i], camera), read_depth=partial(_read_depth, depths[i], depth_camera))
            for i in valid]


def _natural(path: Path) -> list[tuple[int, Any]]:
    """Sort key in which 9 comes before 10."""
    parts = re.split(r"([0-9]+)", path.stem)
    return [(i % 2, int(part) if i % 2 else part) for i, part in enumerate(parts)]


def _list_files(folder: Path, suffixes: set[str]) -> list[Path]:
    check_folder(folder)
    files = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    if not files:
        patterns = " or ".join(f"*{suffix}" for suffix in sorted(suffixes))
        raise FileError(explain("the folder holds no such files", where=folder, expected=patterns))
    return sorted(files, key=_natural)


def _check_pairs(folder: Path, colours: list[Path], depths: list[Path], poses: NDArray[np.float64]) -> None:
    if not len(colours) == len(depths) == len(poses):
        raise FormatError(explain("every frame needs a colour image, a depth image and a pose", where=folder,
                                  got=f"{len(colours)} colour, {len(depths)} depth, {len(poses)} poses",
                                  expected="equal numbers",
                                  do="Remove the images that have no partner; give a lost pose as a row of nan."))
    for colour, depth in zip(colours, depths):
        if re.findall(r"[0-9]+", colour.stem) != re.findall(r"[0-9]+", depth.stem):
            raise FormatError(explain("colour and depth images do not pair up", where=folder,
                                      got=f"{colour.name} and {depth.name}", expected="the same number in both names"))


def _read_poses(folder: Path) -> NDArray[np.float64]:
    """Camera-to-world poses (F, 4, 4) from pose/*.txt or from poses.txt, one a line or four lines each."""
    if (folder / "pose").is_dir():
        return np.stack([_as_poses(path, _read_numbers(path), 1)[0] for path in _list_files(folder / "pose", {".txt"})])
    path = folder / "poses.txt"
    return _as_poses(path, _read_numbers(path), None)


def _as_poses(path: Path, table: NDArray[np.float64], count: int | None) -> NDArray[np.float64]:
    rows, width = table.shape
    if width == 16 or (width == 4 and rows % 4 == 0):
        poses = table.reshape(-1, 4, 4)
    elif width == 12:
        poses = np.concatenate([table.reshape(-1, 3, 4), np.tile([[[0.0, 0, 0, 1]]], (rows, 1, 1))], axis=1)
    else:
        raise FormatError(explain("these are no poses", where=path, got=f"{rows} rows of {width} numbers",
                                  expected="4x4 matrices, row by row: 16 (or 12) numbers a line, or 4 lines of 4"))
    if count is not None and len(poses) != count:
        raise FormatError(explain("one pose per file", where=path, got=f"{len(poses)} poses"))
    return poses


def _is_rigid(pose: NDArray[np.float64]) -> bool:
    """Whether a pose is a rotation and a translation; published poses are rounded, hence the tolerance."""
    if not np.isfinite(pose).all() or not np.allclose(pose[3], [0, 0, 0, 1]):
        return False
    rotation = pose[:3, :3]
    return bool(np.abs(rotation @ rotation.T - np.eye(3)).max() < 0.02 and np.linalg.det(rotation) > 0)


def _read_numbers(path: Path) -> NDArray[np.float64]:
    check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)    # numpy's own words for an empty file; ours follow
            table = np.loadtxt(path, dtype=np.float64, ndmin=2, delimiter="," if b"," in path.read_bytes() else None)
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(explain("these are not rows of numbers", where=path, got=str(error)[:200])) from error
    if table.size == 0:
        raise FormatError(explain("the file holds no numbers", where=path))
    return table


def _cameras(folder: Path, colour: Path, depth: Path) -> tuple[Camera, Camera]:
    """Cameras of the colour and depth images; without intrinsics of its own, depth is taken as registered to colour."""
    colour_matrix = _intrinsics(folder, COLOUR_INTRINSICS)
    if colour_matrix is None:
        raise FileError(explain("there are no camera intrinsics", where=folder,
                                expected=f"one of {', '.join(COLOUR_INTRINSICS)}"))
    width, height = _image_size(colour)
    depth_width, depth_height = _image_size(depth)
    depth_matrix = _intrinsics(folder, DEPTH_INTRINSICS)
    if depth_matrix is None:
        scale = np.array([depth_width / width, depth_height / height, 1.0])
        if abs(scale[0] - scale[1]) > 0.02 * scale[0]:
            raise FormatError(explain("depth images have another shape than colour images and no intrinsics of their own",
                                      where=folder, got=f"{depth_width}x{depth_height} and {width}x{height}",
                                      do=f"Give the depth camera's matrix in {DEPTH_INTRINSICS[0]}."))
        depth_matrix = scale[:, None] * colour_matrix
    return Camera.from_matrix(colour_matrix, width, height), Camera.from_matrix(depth_matrix, depth_width, depth_height)


def _intrinsics(folder: Path, names: tuple[str, ...]) -> NDArray[np.float64] | None:
    path = next((folder / name for name in names if (folder / name).exists()), None)
    if path is None:
        return None
    matrix = _read_numbers(path)
    if matrix.size in (9, 16):
        matrix = matrix.reshape((3, 3) if matrix.size == 9 else (4, 4))[:3, :3]
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1]) <= 0:
        raise FormatError(explain("these are no camera intrinsics", where=path, got=matrix.tolist(),
                                  expected="a 3x3 (or 4x4) matrix [fx 0 cx; 0 fy cy; 0 0 1] in pixels"))
    return matrix


def _image_size(path: Path) -> tuple[int, int]:
    return _open_image(path, lambda image: image.size)


def _read_rgb(path: Path, camera: Camera) -> NDArray[np.uint8]:
    """Colour image (H, W, 3)."""
    return _check_size(path, camera, _open_image(path, lambda image: np.asarray(image.convert("RGB"), dtype=np.uint8)))


def _read_depth(path: Path, camera: Camera) -> NDArray[np.float32]:
    """Depth image (H, W) in metres."""
    depth = _check_size(path, camera, _open_image(path, np.asarray))
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.int32):
        raise FormatError(explain("this is no depth image", where=path, got=f"{depth.dtype} {depth.shape}",
                                  expected="one channel of 16-bit millimetres"))
    return depth.astype(np.float32) * MILLIMETRE


def _open_image(path: Path, take: Callable[[Any], Any]) -> Any:
    from PIL import Image

    check_file(path)
    try:
        with Image.open(path) as image:
            return take(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError(explain("the image cannot be read", where=path, got=str(error),
                                  do="The file was cut off or is damaged; copy it again.")) from error


def _check_size(path: Path, camera: Camera, image: NDArray[Any]) -> NDArray[Any]:
    if image.shape[:2] != (camera.height, camera.width):
        raise FormatError(explain("the image has another size than the first", where=path,
                                  got=f"{image.shape[1]}x{image.shape[0]}", expected=f"{camera.width}x{camera.height}"))
    return image
