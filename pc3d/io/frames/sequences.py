"""Recorded sequences with one trajectory file: Replica (NICE-SLAM), TUM RGB-D, ARKitScenes, Open3D's reconstruction folders."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc3d.errors import FileError, FormatError, explain
from pc3d.io.files import read_json, read_text
from pc3d.io.frames.images import COLOUR_SUFFIXES, DEPTH_SUFFIXES, image_size, list_images
from pc3d.io.frames.poses import (
    from_quaternion,
    from_rotation_vector,
    inverse,
    nearest,
    read_intrinsics,
    read_matrices,
    read_numbers,
)
from pc3d.io.frames.source import Frames, Shot, collect, names_of
from pc3d.structures import Camera, Lens

REPLICA = {"w": 1200, "h": 680, "fx": 600.0, "fy": 600.0, "cx": 599.5, "cy": 339.5, "scale": 6553.5}
#: TUM's own calibrations by the number of its Freiburg rig, images as recorded: fx, fy, cx, cy and OpenCV's k1 k2 p1 p2 k3.
TUM = {"1": (517.306408, 516.469215, 318.643040, 255.313989, 0.262383, -0.953104, -0.005358, 0.002628, 1.163314),
       "2": (520.908620, 521.007327, 325.141442, 249.701764, 0.231222, -0.784899, -0.003257, -0.000105, 0.917205),
       "3": (535.4, 539.2, 320.1, 247.6, 0.0, 0.0, 0.0, 0.0, 0.0)}
TUM_UNIT, TUM_MAX_GAP = 1 / 5000, 0.05
ARKIT_RATES = ("lowres_wide", "vga_wide")
ARKIT_MAX_GAP = 0.02


# ------------------------------------------------------------------------------------------------------------- Replica


def is_replica(path: Path) -> bool:
    """NICE-SLAM's rendering of Replica: results/frame*.jpg, results/depth*.png and traj.txt."""
    return (path / "results").is_dir() and (path / "traj.txt").is_file()


def read_replica(path: Path) -> Frames:
    """Read NICE-SLAM's Replica; the camera comes from cam_params.json beside the scenes, or is the one all of them share."""
    files = list_images(path / "results", COLOUR_SUFFIXES)
    colours = {_number(f): f for f in files if f.name.startswith("frame")}
    depths = {_number(f): f for f in files if f.name.startswith("depth")}
    poses = read_matrices(path / "traj.txt")
    settings = next((p for p in (path / "cam_params.json", path.parent / "cam_params.json") if p.is_file()), None)
    camera, unit = _replica_camera(settings)
    shots = [Shot(colour.stem, camera, colour, depths.get(number), poses[number] if number < len(poses) else None,
                  depth_unit=unit, fault=None if number in depths else "no depth image")
             for number, colour in colours.items()]
    return collect("replica", path, shots)


def _replica_camera(settings: Path | None) -> tuple[Camera, float]:
    """The camera, and the metres per step of a depth image."""
    try:
        values = REPLICA | (read_json(settings).get("camera", {}) if settings else {})
        fx, fy, cx, cy, scale = (float(values[name]) for name in ("fx", "fy", "cx", "cy", "scale"))
        return Camera(int(values["w"]), int(values["h"]), fx, fy, cx, cy), 1 / scale
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise FormatError(explain("these are no camera parameters", where=settings, got=repr(error),
                                  expected='{"camera": {"w": ..., "h": ..., "fx": ..., "fy": ..., "cx": ..., "cy": ..., '
                                           '"scale": ...}}')) from error


def _number(path: Path) -> int:
    return int("".join(re.findall(r"[0-9]+", path.stem)) or -1)


# ----------------------------------------------------------------------------------------------------------------- TUM


def is_tum(path: Path) -> bool:
    """TUM RGB-D: rgb.txt, depth.txt and groundtruth.txt list images and poses by time."""
    return all((path / name).is_file() for name in ("rgb.txt", "groundtruth.txt"))


def read_tum(path: Path) -> Frames:
    """Read a TUM RGB-D sequence: depth and pose of an image are the nearest in time, within 50 ms.

    The camera comes from K.txt, else from TUM's calibration of the rig (freiburg1, 2, 3 in the folder's name), else it is
    the default of ROS, with a warning. Depth counts 5000 a metre and is registered to colour.
    """
    if not (images := _tum_list(path / "rgb.txt")):
        raise FormatError(explain("the list names no images", where=path / "rgb.txt"))
    truth = read_numbers(path / "groundtruth.txt")
    if truth.shape[1] != 8:
        raise FormatError(explain("a line holds no pose", where=path / "groundtruth.txt", got=f"{truth.shape[1]} numbers",
                                  expected="timestamp tx ty tz qx qy qz qw"))
    truth = truth[np.argsort(truth[:, 0], kind="stable")]
    poses = from_quaternion(truth[:, [7, 4, 5, 6]], truth[:, 1:4])
    camera = _tum_camera(path, *image_size(path / images[0][1]))
    depths = _tum_list(path / "depth.txt") if (path / "depth.txt").is_file() else []
    times = np.array([time for time, _ in images])
    pose_row, pose_gap = nearest(truth[:, 0], times)
    depth_row, depth_gap = nearest(np.array([time for time, _ in depths]), times) if depths else (pose_row, pose_gap)
    shots = []
    names = names_of([name for _, name in images])
    for i, (time, name) in enumerate(images):
        depth = path / depths[depth_row[i]][1] if depths else None
        fault = "no depth image within 50 ms" if depths and depth_gap[i] > TUM_MAX_GAP else None
        fault = "no pose within 50 ms" if pose_gap[i] > TUM_MAX_GAP else fault
        shots.append(Shot(names[i], camera, path / name, depth, poses[pose_row[i]], depth_unit=TUM_UNIT,
                          timestamp=time, fault=fault))
    return collect("tum", path, shots)


def _tum_list(path: Path) -> list[tuple[float, str]]:
    rows = [line.split() for line in read_text(path).splitlines() if line.strip() and line[0] != "#"]
    try:
        return sorted((float(row[0]), row[1]) for row in rows)
    except (ValueError, IndexError) as error:
        raise FormatError(explain("a line is no timestamp and file name", where=path, got=str(error))) from error


def _tum_camera(path: Path, width: int, height: int) -> Camera:
    if (path / "K.txt").is_file():
        return Camera.from_matrix(read_intrinsics(path / "K.txt"), width, height)
    rig = re.search(r"freiburg([123])", path.resolve().name)
    if rig is None:
        warnings.warn(f"{path}: no K.txt and no freiburg1, 2 or 3 in its name; the default camera of ROS is assumed",
                      stacklevel=2)
        return Camera(640, 480, 525.0, 525.0, 319.5, 239.5).resized(width, height)
    fx, fy, cx, cy, k1, k2, p1, p2, k3 = TUM[rig[1]]
    lens = Lens((k1, k2, k3), (p1, p2)) if k1 else None
    return Camera(640, 480, fx, fy, cx, cy, lens).resized(width, height)


# --------------------------------------------------------------------------------------------------------- ARKitScenes


def is_arkit(path: Path) -> bool:
    """ARKitScenes: lowres_wide/ (or vga_wide/), lowres_depth/ and lowres_wide.traj."""
    return (path / "lowres_wide.traj").is_file() and any((path / rate).is_dir() for rate in ARKIT_RATES)


def read_arkit(path: Path) -> Frames:
    """Read an ARKitScenes scan: the trajectory is world-to-camera, axis-angle; images, depth and poses pair by time."""
    rate = next(rate for rate in ARKIT_RATES if (path / rate).is_dir())
    table = read_numbers(path / "lowres_wide.traj")
    if table.shape[1] != 7:
        raise FormatError(explain("a line holds no pose", where=path / "lowres_wide.traj", got=f"{table.shape[1]} numbers",
                                  expected="timestamp, rotation vector, translation"))
    table = table[np.argsort(table[:, 0], kind="stable")]
    poses = inverse(from_rotation_vector(table[:, 1:4], table[:, 4:7]))
    depths = _by_time(path / "lowres_depth") if (path / "lowres_depth").is_dir() else {}
    cameras = _by_time(path / f"{rate}_intrinsics")
    shots = []
    for time, colour in _by_time(path / rate).items():
        row, gap = nearest(table[:, 0], np.array([time]))
        depth, pincam = _closest(depths, time), _closest(cameras, time)
        fault = "no pose within 20 ms" if gap[0] > ARKIT_MAX_GAP else "no intrinsics" if pincam is None else None
        fault = "no depth image" if depths and depth is None else fault
        camera = None if pincam is None else _pincam(pincam)
        depth_camera = camera.resized(*image_size(depth)) if camera is not None and depth is not None else None
        shots.append(Shot(colour.stem, camera, colour, depth, poses[row[0]], depth_camera, timestamp=time, fault=fault))
    return collect("arkitscenes", path, shots)


def _by_time(folder: Path) -> dict[float, Path]:
    """Files by the time at the end of their name, <video>_<seconds>.png."""
    files = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        if found := re.search(r"([0-9]+\.[0-9]+)$", file.stem):
            files[float(found[1])] = file
    if not files:
        raise FileError(explain("the folder holds no files named by time", where=folder, expected="<video>_<seconds>.<suffix>"))
    return dict(sorted(files.items()))


def _closest(files: dict[float, Path], time: float) -> Path | None:
    if not files:
        return None
    times = np.fromiter(files, dtype=np.float64)
    row, gap = nearest(times, np.array([time]))
    return files[float(times[row[0]])] if gap[0] <= ARKIT_MAX_GAP else None


def _pincam(path: Path) -> Camera:
    values = read_numbers(path).ravel()
    if values.size != 6:
        raise FormatError(explain("these are no intrinsics", where=path, got=f"{values.size} numbers",
                                  expected="w h fx fy cx cy"))
    return Camera(int(values[0]), int(values[1]), *values[2:].tolist())


# -------------------------------------------------------------------------------------------------------------- Open3D

_OPEN3D_TRAJECTORIES = ("trajectory.log", "scene/trajectory.log", "trajectory.json", "camera_trajectory.json")
_OPEN3D_CAMERAS = ("camera_intrinsic.json", "intrinsic.json", "camera_primesense.json", "camera.json")


def is_open3d(path: Path) -> bool:
    """Open3D's reconstruction system: color/ or image/, depth/ and a trajectory as .log or .json."""
    return any((path / name).is_file() for name in _OPEN3D_TRAJECTORIES) and any(
        (path / name).is_dir() for name in ("color", "image", "rgb"))


def read_open3d(path: Path) -> Frames:
    """Read Open3D's layout: .log poses are camera-to-world; .json extrinsics world-to-camera, column by column."""
    colours = list_images(next(path / n for n in ("color", "image", "rgb") if (path / n).is_dir()), COLOUR_SUFFIXES)
    depths = list_images(path / "depth", DEPTH_SUFFIXES) if (path / "depth").is_dir() else []
    trajectory = next(path / name for name in _OPEN3D_TRAJECTORIES if (path / name).is_file())
    poses, camera = _open3d_log(trajectory) if trajectory.suffix == ".log" else _open3d_json(trajectory)
    if camera is None:
        settings = next((path / name for name in _OPEN3D_CAMERAS if (path / name).is_file()), None)
        if settings is None:
            raise FileError(explain("there are no camera intrinsics", where=path,
                                    expected=f"one of {', '.join(_OPEN3D_CAMERAS)}"))
        camera = _open3d_camera(read_json(settings), settings)
    if depths and len(depths) != len(colours):
        raise FormatError(explain("every colour image needs a depth image", where=path,
                                  got=f"{len(colours)} colour and {len(depths)} depth images"))
    shots = [Shot(colour.stem, camera, colour, depths[i] if depths else None, poses.get(i)) for i, colour in enumerate(colours)]
    return collect("open3d", path, shots)


def _open3d_log(path: Path) -> tuple[dict[int, NDArray[np.float64]], None]:
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    try:
        blocks = [lines[i:i + 5] for i in range(0, len(lines), 5)]
        return {int(float(b[0][0])): np.array(b[1:], dtype=np.float64).reshape(4, 4) for b in blocks}, None
    except (ValueError, IndexError) as error:
        raise FormatError(explain("this is no trajectory", where=path, got=str(error),
                                  expected="per frame a line of three ids and four lines of the pose")) from error


def _open3d_json(path: Path) -> tuple[dict[int, NDArray[np.float64]], Camera]:
    content = read_json(path)
    try:
        views = content["parameters"]
        extrinsics = np.array([view["extrinsic"] for view in views], dtype=np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)
        return dict(enumerate(inverse(extrinsics))), _open3d_camera(views[0]["intrinsic"], path)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(explain("this is no PinholeCameraTrajectory", where=path, got=repr(error))) from error


def _open3d_camera(content: Any, path: Path) -> Camera:
    try:
        matrix = np.array(content["intrinsic_matrix"], dtype=np.float64).reshape(3, 3).T  # written column by column
        return Camera.from_matrix(matrix, int(content["width"]), int(content["height"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(explain("this is no PinholeCameraIntrinsic", where=path, got=repr(error))) from error
