"""Plain folders of posed images, by the names they go by: ours, ScanNet's exported frames and what others made of them.

color/, depth/ and pose/ (or poses.txt), side by side in the folder or in frames/, data/ or data_compressed/ below it; or all
files in one folder, told apart by name: 00000.jpg, 00000.png, 00000.txt, or 0-color.jpg, 0-depth.png, 0-pose.txt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FileError, FormatError, explain
from pc3d.io.files import check_folder
from pc3d.io.frames.images import COLOUR_SUFFIXES, DEPTH_SUFFIXES, image_size, list_images, natural
from pc3d.io.frames.poses import read_intrinsics, read_matrices
from pc3d.io.frames.source import Frames, Shot, collect
from pc3d.structures import Camera

COLOUR_FOLDERS, DEPTH_FOLDERS, POSE_FOLDERS = ("color", "colour", "rgb", "images"), ("depth", "depths"), ("pose", "poses")
BELOW = ("", "frames", "data", "data_compressed")
_INTRINSIC_FOLDERS = ("", "intrinsic/", "intrinsics/")
COLOUR_INTRINSICS = ("K.txt", "K_color.txt", *(f"{folder}{name}_color.txt" for folder in _INTRINSIC_FOLDERS
                                               for name in ("intrinsic", "intrinsics")))
DEPTH_INTRINSICS = ("K_depth.txt", *(f"{folder}{name}_depth.txt" for folder in _INTRINSIC_FOLDERS
                                     for name in ("intrinsic", "intrinsics")))
SHARED_INTRINSICS = (*(f"{folder}{name}.txt" for folder in _INTRINSIC_FOLDERS for name in ("intrinsic", "intrinsics")),
                     "camera-intrinsics.txt")

Key = tuple[int, ...]


@dataclass(frozen=True)
class Listing:
    """The files of a folder by the numbers in their names."""

    root: Path
    colours: dict[Key, Path]
    depths: dict[Key, Path] | None                      # None: there is no depth at all
    poses: dict[Key, Path] | None                       # None: they are in poses.txt


def is_folder_layout(path: Path, *, complete: bool = True) -> bool:
    """Whether the folder holds images and poses under names that are known here; not ``complete``, images are enough."""
    return path.is_dir() and (_base(path, complete=complete) is not None or bool(_flat(path).colours))


def read_folder(path: Path) -> Frames:
    """Read a plain or ScanNet-like folder; colour, depth and pose go together by the numbers in their names."""
    check_folder(path)
    base = _base(path) or _base(path, complete=False)
    listing = _flat(path) if base is None else _by_folders(base)
    if not listing.colours:
        raise FileError(explain("there are no images", where=path, expected=f"a folder {' or '.join(COLOUR_FOLDERS)}"))
    poses, faults = _poses(listing)
    camera, depth_camera = cameras_of(listing.root, path, listing)
    _check_pairs(listing)
    shots = []
    for key, colour in listing.colours.items():
        depth = None if listing.depths is None else listing.depths.get(key)
        fault = "no depth image" if listing.depths is not None and depth is None else faults.get(key)
        shots.append(Shot(colour.stem, camera, colour, depth, poses.get(key), depth_camera, fault=fault))
    return collect("folder", path, shots)


def key_of(path: Path) -> Key:
    """All numbers in a file's name: 'frame-000012.color' and '12' are the same frame."""
    return tuple(int(number) for number in re.findall(r"[0-9]+", path.stem))


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _base(path: Path, *, complete: bool = True) -> Path | None:
    """The folder that holds a folder of colour images and, when ``complete``, poses."""
    for below in BELOW:
        base = path / below
        if _first(base, COLOUR_FOLDERS) and (not complete or _first(base, (*POSE_FOLDERS, "poses.txt"))):
            return base
    return None


def _by_folders(base: Path) -> Listing:
    colours = _first(base, COLOUR_FOLDERS)
    depths, poses = _first(base, DEPTH_FOLDERS), _first(base, POSE_FOLDERS)
    return Listing(base, _keyed(list_images(colours, COLOUR_SUFFIXES)) if colours else {},
                   None if depths is None else _keyed(list_images(depths, DEPTH_SUFFIXES)),
                   None if poses is None else _keyed(list_images(poses, (".txt",))))


def _flat(path: Path) -> Listing:
    """Files of one folder, told apart by suffix and by the words colour, depth and pose."""
    files = sorted((file for file in path.iterdir() if re.search(r"[0-9]", file.stem) and file.is_file()), key=natural)
    depths = [f for f in files if f.suffix.lower() in DEPTH_SUFFIXES and not re.search(r"colou?r|rgb", f.name)]
    pictures = [f for f in files if f.suffix.lower() in COLOUR_SUFFIXES and f not in depths]
    poses = _keyed([f for f in files if f.suffix.lower() == ".txt" and "intrinsic" not in f.name])
    colours = {key: file for key, file in _keyed(pictures).items() if poses}
    return Listing(path, colours, _keyed(depths) or None, poses)


def _keyed(files: list[Path]) -> dict[Key, Path]:
    keyed: dict[Key, Path] = {}
    for file in files:
        if (other := keyed.setdefault(key_of(file), file)) != file:
            raise FormatError(explain("two files belong to one frame", where=file, got=f"{other.name} and {file.name}",
                                      expected="different numbers in their names"))
    return keyed


def _check_pairs(listing: Listing) -> None:
    for kind, others in (("depth images", listing.depths), ("poses", listing.poses)):
        if others is not None and not listing.colours.keys() & others.keys():
            first = next(iter(others.values())).name
            raise FormatError(explain(f"colour images and {kind} do not pair up", where=listing.root,
                                      got=f"{next(iter(listing.colours.values())).name} and {first}",
                                      expected="the same number in both names"))


def _poses(listing: Listing) -> tuple[dict[Key, NDArray[np.float64]], dict[Key, str]]:
    """Camera-to-world pose of each frame, and what is wrong with those that cannot be read."""
    if listing.poses is None:
        path = listing.root / "poses.txt"
        matrices = read_matrices(path)
        if len(matrices) != len(listing.colours):
            raise FormatError(explain("every frame needs a colour image and a pose", where=path,
                                      got=f"{len(listing.colours)} colour images, {len(matrices)} poses",
                                      expected="equal numbers", do="Give a lost pose as a row of nan."))
        return dict(zip(listing.colours, matrices)), {}
    poses, faults = {}, {}
    for key in listing.colours.keys() & listing.poses.keys():
        try:
            matrices = read_matrices(listing.poses[key])
        except FileError:
            faults[key] = "pose file cannot be read"
            continue
        poses[key] = matrices[0]
        if len(matrices) != 1:
            raise FormatError(explain("one pose per file", where=listing.poses[key], got=f"{len(matrices)} poses"))
    return poses, faults


def cameras_of(base: Path, root: Path, listing: Listing) -> tuple[Camera, Camera]:
    """Cameras of the colour and depth images; without intrinsics of its own, depth is taken as registered to colour."""
    size = _size(list(listing.colours.values()))
    depth_size = _size(list(listing.depths.values())) if listing.depths else size
    found = [_intrinsics((base, root), names) for names in (COLOUR_INTRINSICS, DEPTH_INTRINSICS, SHARED_INTRINSICS)]
    colour, depth, shared = found
    if shared is not None and colour is None:
        if _fits(shared, size) or not _fits(shared, depth_size):
            colour = shared
        else:
            depth = shared if depth is None else depth
    if colour is None and depth is None:
        raise FileError(explain("there are no camera intrinsics", where=root,
                                expected=f"one of {', '.join(COLOUR_INTRINSICS)}"))
    if colour is None or depth is None:
        _check_shape(root, size, depth_size)
    if colour is None:
        return Camera.from_matrix(_given(depth), *depth_size).resized(*size), Camera.from_matrix(_given(depth), *depth_size)
    camera = Camera.from_matrix(colour, *size)
    return camera, camera.resized(*depth_size) if depth is None else Camera.from_matrix(depth, *depth_size)


def _given(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix)


def _fits(matrix: NDArray[np.float64], size: tuple[int, int]) -> bool:
    """Whether the principal point lies in the middle quarter of an image of this size."""
    return bool(abs(matrix[0, 2] / size[0] - 0.5) < 0.125 and abs(matrix[1, 2] / size[1] - 0.5) < 0.125)


def _check_shape(root: Path, size: tuple[int, int], depth_size: tuple[int, int]) -> None:
    scale = depth_size[0] / size[0], depth_size[1] / size[1]
    if abs(scale[0] - scale[1]) > 0.02 * scale[0]:
        raise FormatError(explain("depth images have another shape than colour images and no intrinsics of their own",
                                  where=root, got=f"{depth_size[0]}x{depth_size[1]} and {size[0]}x{size[1]}",
                                  do=f"Give the depth camera's matrix in {DEPTH_INTRINSICS[0]}."))


def _intrinsics(folders: tuple[Path, Path], names: tuple[str, ...]) -> NDArray[np.float64] | None:
    path = _first(folders[0], names) or _first(folders[1], names)
    return None if path is None else read_intrinsics(path)


def _size(files: list[Path]) -> tuple[int, int]:
    """Size of the first image that can be read; the error of the first when none can."""
    error: FileError | None = None
    for file in files:
        try:
            return image_size(file)
        except FileError as problem:
            error = error or problem
    raise error or FileError("no images")
