"""transforms.json (nerfstudio, Polycam through ns-process-data, instant-ngp), and frames.json, our own documented list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pc3d.errors import FormatError, explain
from pc3d.io.files import read_json
from pc3d.io.frames.images import image_size
from pc3d.io.frames.poses import OPENGL
from pc3d.io.frames.source import Frames, Shot, collect, names_of
from pc3d.structures import Camera, Lens

_FISHEYE = {"OPENCV_FISHEYE", "FISHEYE"}
_MODELS = {*_FISHEYE, "OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL"}


def find_list(path: Path, name: str) -> Path | None:
    """``name`` itself, or in the folder."""
    inside = path / name if path.is_dir() else path
    return inside if inside.is_file() and inside.name == name else None


def read_nerfstudio(path: Path) -> Frames:
    """Read transforms.json: camera-to-world poses with OpenGL axes; intrinsics once or per frame; depth in millimetres."""
    return _read(find_list(path, "transforms.json") or path, "nerfstudio")


def read_list(path: Path) -> Frames:
    """Read frames.json: camera-to-world poses with OpenCV axes unless it says "axes": "opengl" (docs/formats.md)."""
    return _read(find_list(path, "frames.json") or path, "json")


def _read(file: Path, layout: str) -> Frames:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise FormatError(explain("there is no list of frames", where=file, expected='{"frames": [{"file_path": ...}, ...]}'))
    shots = [_shot(file, content, record, layout == "json", number) for number, record in enumerate(content["frames"])]
    given = [{**content, **record} for record in content["frames"]]
    names = names_of([str(values["file_path"]) for values in given])
    return collect(layout, file.parent, [replace(shot, name=str(values.get("name", name)))
                                         for shot, values, name in zip(shots, given, names)])


def _shot(file: Path, shared: dict[str, Any], record: Any, ours: bool, number: int) -> Shot:
    """One frame, of our list or nerfstudio's; its own values win over those of the whole file."""
    try:
        values = {**shared, **record}
        image = _image(file.parent / values["file_path"])
        depth = values.get("depth_file_path")
        depth_path = None if depth is None else file.parent / depth
        pose = np.array(values["transform_matrix"], dtype=np.float64)
        pose = np.vstack([pose, [0, 0, 0, 1]]) if pose.shape == (3, 4) else pose.reshape(4, 4)
        camera = _camera(values, image, corner=0.0 if ours else 0.5)
        unit = float(values.get("depth_unit" if ours else "depth_unit_scale_factor", 0.001))
        return Shot(image.stem, camera, image, depth_path,
                    pose @ _axes(values.get("axes", "opencv") if ours else "opengl"),
                    _depth_camera(values, camera, depth_path), unit, values.get("timestamp"))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(explain("a frame lacks what it needs", where=f"{file}:frame {number}",
                                  got=f"{type(error).__name__}: {error}",
                                  expected="file_path, transform_matrix, and fl_x fl_y cx cy here or for all")) from error


def _axes(name: str) -> np.ndarray:
    """From OpenCV's axes of a camera to those of a list."""
    if name not in ("opencv", "opengl"):
        raise ValueError(f"axes {name!r}, known are opencv and opengl")
    return OPENGL if name == "opengl" else np.eye(4)


def _image(path: Path) -> Path:
    """instant-ngp's lists leave the suffix out."""
    return path if path.suffix else next((p for s in (".png", ".jpg", ".jpeg") if (p := path.with_suffix(s)).is_file()), path)


def _camera(values: dict[str, Any], image: Path, corner: float) -> Camera | None:
    """Camera of a colour image; ``corner`` is where the middle of the first pixel lies: 0.5 as COLMAP has it, ours 0."""
    if not image.is_file():
        return None
    if values.get("camera_model", "OPENCV") not in _MODELS:
        raise ValueError(f"camera_model {values['camera_model']!r}, known are {', '.join(sorted(_MODELS))}")
    width, height = (int(values[n]) for n in ("w", "h")) if "w" in values and "h" in values else image_size(image)
    fx = float(values["fl_x"]) if "fl_x" in values else width / 2 / np.tan(float(values["camera_angle_x"]) / 2)
    fy = float(values.get("fl_y", fx))
    cx, cy = (float(values.get(name, side / 2 - 0.5 + corner)) - corner for name, side in (("cx", width), ("cy", height)))
    return Camera(width, height, fx, fy, cx, cy, _lens(values))


def _lens(values: dict[str, Any]) -> Lens | None:
    fisheye = values.get("camera_model") in _FISHEYE
    k = tuple(float(values.get(f"k{i}", 0.0)) for i in range(1, 5 if fisheye else 7))
    p = float(values.get("p1", 0.0)), float(values.get("p2", 0.0))
    if not fisheye and k[3:] != (0.0, 0.0, 0.0) and "k5" not in values and "k6" not in values:
        k = k[:3]  # nerfstudio writes the fisheye's k4 into every list
    return Lens(k, p, fisheye) if fisheye or any(k) or any(p) else None


def _depth_camera(values: dict[str, Any], camera: Camera | None, depth: Path | None) -> Camera | None:
    if camera is None or depth is None or not depth.is_file():
        return None
    own = values.get("depth_camera")
    if own is None:
        return camera.resized(*image_size(depth))
    fx, fy, cx, cy = (float(own[name]) for name in ("fl_x", "fl_y", "cx", "cy"))
    return Camera(*image_size(depth), fx, fy, cx, cy)
