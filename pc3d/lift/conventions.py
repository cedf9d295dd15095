"""What poses and depth may mean, tried against the scan: which of all usual readings puts the images on its surface."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from pc3d.errors import ConfigError, DataError, FileError, FormatError, explain
from pc3d.structures import Frame, PointCloud

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
#: Depth as read times this is metres: right; read as millimetres what are metres, centimetres, 0.1 mm, 1/5000 (TUM),
#: 1/6553.5 (Replica), 1/4000 (Matterport), 1/256 m; and the other way round.
DEPTH_SCALES = (1.0, 1000.0, 10.0, 0.1, 0.2, 1 / 6.5535, 0.25, 1000 / 256, 5.0, 6.5535, 4.0, 0.256, 0.001)
_FITS, _MARGIN = 0.5, 1.3  # share of pixels on the scan, and how much better than the next reading, to be believed
_PIXELS, _FRAMES = 400, 8
_MAX_NOTE = 2**16  # bytes of ScanNet's <scene>.txt, at most


@dataclass(frozen=True)
class Convention:
    """How to read poses and depth; written as words joined by commas: w2c, opengl, depth=5."""

    world_to_camera: bool = False
    opengl: bool = False
    depth_scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Convention:
        """Read what ``str`` wrote; raises ConfigError."""
        found = cls()
        for word in filter(None, (word.strip() for word in text.split(","))):
            name, _, value = word.partition("=")
            if word == "w2c":
                found = replace(found, world_to_camera=True)
            elif word == "opengl":
                found = replace(found, opengl=True)
            elif name == "depth" and _is_positive(value):
                found = replace(found, depth_scale=float(value))
            elif word not in ("c2w", "opencv"):
                raise ConfigError(explain("unknown convention", got=repr(word), expected="w2c, opengl, depth=NUMBER"))
        return found

    def __str__(self) -> str:
        words = ["w2c"] * self.world_to_camera + ["opengl"] * self.opengl
        return ",".join(words + [f"depth={self.depth_scale:g}"] * (self.depth_scale != 1))

    def pose(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """The camera-to-world pose with OpenCV axes that ``matrix`` means."""
        pose = np.linalg.inv(matrix) if self.world_to_camera else matrix
        return np.asarray(pose @ _OPENGL if self.opengl else pose, dtype=np.float64)

    def apply(self, frame: Frame, T_scan_world: NDArray[np.float64] | None = None) -> Frame:
        """The frame as it is meant, in the coordinates of the scan."""
        meant = replace(frame, T_world_camera=self.pose(frame.T_world_camera))
        meant = meant if self.depth_scale == 1 else meant.with_depth_times(self.depth_scale)
        return meant if T_scan_world is None else meant.moved(T_scan_world)


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < np.inf
    except ValueError:
        return False


@dataclass(frozen=True)
class Fit:
    """How well one reading fits: the share of depth pixels that land on the scan."""

    convention: Convention
    alignment: str      # name of the transform from the frames' world to the scan
    share: float


@dataclass(frozen=True)
class CheckResult:
    """Every reading by falling share; ``best`` is the one to use, None where none stands out."""

    fits: tuple[Fit, ...]
    num_frames: int
    tolerance: float
    default: str = "none"   # the alignment that is taken unless another is asked for

    @property
    def best(self) -> Fit | None:
        """The first, when it fits and nothing else fits nearly as well."""
        first, second = self.fits[0], next((f for f in self.fits[1:] if f.share < self.fits[0].share), None)
        clear = second is None or first.share >= _MARGIN * second.share
        return first if first.share >= _FITS and clear else None

    def advice(self) -> str:
        """What to do, in one line."""
        fit = self.best
        if fit is None:
            return ("no reading fits: the frames may be of another place, or their world of another scale (COLMAP and monocular"
                    " trackers have none) or turned against the scan; align them first")
        options = [f"--convention {fit.convention}"] * bool(str(fit.convention))
        options += [f"--alignment {fit.alignment}"] * (fit.alignment != self.default)
        return f"add {' '.join(options)}" if options else "poses and depth fit the scan as they are read"


def check_conventions(frames: Sequence[Frame], cloud: PointCloud,
                      alignments: Mapping[str, NDArray[np.float64]] | None = None, seed: int = 0) -> CheckResult:
    """Try camera-to-world or its inverse, OpenCV or OpenGL axes, usual depth scales and the given alignments.

    A few hundred depth pixels of up to 8 frames go into the world by each reading; the right one puts nearly all of them
    within 5 cm (or two point spacings) of the scan. ``alignments``: name -> T_scan_world. Raises DataError without depth.
    """
    rng = np.random.default_rng(seed)
    samples = list(_samples(frames, rng))
    if not samples:
        raise DataError(explain("the check needs depth, and no frame has any", got=f"{len(frames)} frames"))
    tree, tolerance = _surface(cloud, rng, 200_000)
    named = {"none": np.eye(4), **(alignments or {})}
    fits = [Fit(Convention(invert, opengl, scale), name,
                _share(tree, tolerance, samples, Convention(invert, opengl, scale), transform))
            for invert, opengl, scale, (name, transform) in product((False, True), (False, True), DEPTH_SCALES, named.items())]
    ranked = tuple(sorted(fits, key=lambda fit: -fit.share))
    return CheckResult(ranked, len(samples), tolerance, "scan" if "scan" in named else "none")


def share_on_scan(frames: Sequence[Frame], cloud: PointCloud, seed: int = 0) -> float:
    """Share of some depth pixels of up to 8 frames that lie on the scan, as the frames are; NaN without depth.

    "On" is within 5 cm or two spacings of 20,000 of its points: a look, not the check.
    """
    rng = np.random.default_rng(seed)
    samples = list(_samples(frames, rng))
    return _share(*_surface(cloud, rng, 20_000), samples, Convention(), np.eye(4)) if samples else math.nan


def _surface(cloud: PointCloud, rng: np.random.Generator, most: int) -> tuple[cKDTree, float]:
    """Some points of a scan to search in, and how far from them, in metres, is on the scan."""
    points = cloud.xyz[rng.permutation(len(cloud))[:most]] + cloud.origin
    tree = cKDTree(points)
    spacing = np.median(tree.query(points[:500], k=2)[0][:, 1])
    return tree, max(0.05, 2 * float(spacing))


def _samples(frames: Sequence[Frame], rng: np.random.Generator) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """(pose, points in camera coordinates) of some depth pixels of some frames, in OpenCV axes and as deep as read."""
    rows = np.unique(np.linspace(0, len(frames) - 1, _FRAMES).astype(int)).tolist()
    for frame in (frames[row] for row in rows if len(frames)):
        if not frame.has_depth:
            continue
        try:
            depth = frame.depth
        except FileError:
            continue
        v, u = np.nonzero(depth > 0)
        if len(v):
            some = rng.permutation(len(v))[:_PIXELS]
            rays = frame.depth_camera.rays(np.stack([u[some], v[some]], axis=1))
            yield frame.T_world_camera, rays * depth[v[some], u[some]][:, None]


def _share(tree: cKDTree, tolerance: float, samples: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
           convention: Convention, transform: NDArray[np.float64]) -> float:
    world = []
    for matrix, points in samples:
        pose = transform @ convention.pose(matrix)
        world.append(convention.depth_scale * points @ pose[:3, :3].T + pose[:3, 3])
    distance = tree.query(np.concatenate(world), distance_upper_bound=tolerance)[0]
    return float(np.isfinite(distance).mean())


# ----------------------------------------------------------------------------------------------------------- alignments

ALIGNED = "T_aligned_world"  # how reconstruct.align_up marks a turned mesh


def find_alignments(cloud: PointCloud, path: Path | None = None) -> dict[str, NDArray[np.float64]]:
    """Known transforms from the frames' world to the scan: its own note, and ScanNet's axisAlignment beside the file.

    Of several scenes' notes that of the scan's own scene counts, the longest name that the scan's begins with.
    Raises FormatError for a note of other than 16 numbers.
    """
    found = {}
    for comment in cloud.metadata.get("ply", {}).get("comments", ()):
        name, _, numbers = str(comment).partition(" ")
        if name == ALIGNED:
            found["scan"] = _matrix(numbers, f"comment {ALIGNED}")
    for text in _notes(path) if path is not None else ():
        if not text.is_file() or text.stat().st_size > _MAX_NOTE:     # a scan may be a .txt too
            continue
        for line in text.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.replace(" ", "").startswith("axisAlignment="):
                found["axis"] = _matrix(line.partition("=")[2], str(text))
    return found


def _notes(scan: Path) -> list[Path]:
    """Text files beside a scan, its own scene's last."""
    return sorted(scan.parent.glob("*.txt"), key=lambda one: (len(one.stem) * scan.name.startswith(one.stem), one.name))


def _matrix(numbers: str, where: str) -> NDArray[np.float64]:
    try:
        return np.array(numbers.split(), dtype=np.float64).reshape(4, 4)
    except ValueError as error:
        raise FormatError(explain("this is no 4x4 matrix", where=where, got=repr(numbers.strip()[:100]),
                                  expected="16 numbers, row by row")) from error


def resolve_alignment(name: str, known: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The transform of a name: auto (the scan's own note, if any), none, scan, axis, or a text file with 4x4 numbers."""
    if name == "auto":
        return known.get("scan", np.eye(4))
    if name == "none":
        return np.eye(4)
    if name in known:
        return known[name]
    if not Path(name).is_file():
        raise ConfigError(explain("unknown alignment", got=repr(name),
                                  expected=f"{', '.join(['auto', 'none', *known])} or a file with a 4x4 matrix"))
    from pc3d.io.frames.poses import read_matrices

    return read_matrices(Path(name))[0]
