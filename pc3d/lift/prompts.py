"""One object in 3D: by a click on the scan, or by points or a box on a frame. A 2D model is asked in several views of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.sparse import csr_matrix

from pc3d.errors import ConfigError, DataError, FileError, explain
from pc3d.lift.ahead import read_ahead
from pc3d.lift.config import LiftConfig
from pc3d.lift.lifter import Lifter, with_images
from pc3d.lift.masks import FrameMasks
from pc3d.lift.methods.groups import Groups, detected, finish, membership
from pc3d.lift.votes import Votes
from pc3d.structures import Camera, Frame, Instances, PointCloud

if TYPE_CHECKING:
    from pc3d.lift.segmenters import Segmenter

_REACH = 0.1  # metres from a click to the scan, at most


@runtime_checkable
class Prompted(Protocol):
    """A 2D model that can be asked for one object: PromptedSegmenter."""

    def prompt(self, frame: Frame, points: NDArray[np.floating] | None = None, labels: NDArray[np.integer] | None = None,
               box: NDArray[np.floating] | None = None) -> FrameMasks:
        """The object at points (P, 2), or in a box (4,), pixels of the colour image; points of label 0 are not of it."""


class Pixels(NamedTuple):
    """Two numbers for a point (u, v), four for a box (u0, v0, u1, v1), on a colour image whose first middle is (0, 0)."""

    frame: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Prompt:
    """What is meant: clicks, points and box must lie on one object, ``not_clicks`` and ``not_points`` beside it."""

    clicks: tuple[int | tuple[float, ...], ...] = ()    # points of the scan: their rows, or x, y, z as in its file
    points: tuple[Pixels, ...] = ()
    box: Pixels | None = None
    not_clicks: tuple[int | tuple[float, ...], ...] = ()
    not_points: tuple[Pixels, ...] = ()


@dataclass(eq=False)
class View:
    """A frame to ask in, with what it is asked."""

    frame: Frame
    points: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    box: NDArray[np.float64] | None = None
    worth: float = 0.0
    beside: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))   # pixels that are not of the object

    def ask(self, segmenter: Prompted) -> FrameMasks:
        """The mask of the object here."""
        points = np.concatenate([self.points, self.beside])
        labels = np.repeat([1, 0], [len(self.points), len(self.beside)]) if len(self.beside) else None
        return segmenter.prompt(self.frame, points if len(points) else None, labels, self.box)


def lift_prompt(cloud: PointCloud, frames: Sequence[Frame], segmenter: Prompted | Segmenter, prompt: Prompt, *,
                views: int = 8, config: LiftConfig | None = None) -> tuple[Instances, Lifter]:
    """The one object that is meant by a prompt, as an instance of the scan with its evidence.

    What is given on frames becomes points of the scan. Of the frames that see one (depth-tested), the best of each of
    ``views`` stretches of the sequence is asked for the object there, beside the frames of the prompt; their masks vote on
    superpoints. What is said not to be of the object is shown to the model wherever a frame sees it (label 0), and its
    superpoint left out. Frames must be in the scan's coordinates. Raises DataError for a click off the scan, or that no
    frame sees; ConfigError for a segmenter that cannot be asked.
    """
    if views < 1:
        raise ConfigError(explain("some view must be asked", got=views, expected="1 or more"))
    if not isinstance(segmenter, Prompted):
        raise ConfigError(explain("this source of masks cannot be asked for one object", got=type(segmenter).__name__,
                                  expected="sam, samhq, sam2 or sam3, without text, video or cache"))
    lifter = Lifter(cloud, config)
    rows, beside = ([_row(cloud, click) for click in clicks] for clicks in (prompt.clicks, prompt.not_clicks))
    named = _named(frames, (*prompt.points, *([prompt.box] if prompt.box else [])))
    if not rows and not named:
        raise ConfigError(explain("nothing says which object is meant", expected="a click, a point or a box"))
    for view in _named(frames, prompt.not_points).values():
        beside += _rows_below(lifter, view.frame, view.points)
        if view.frame.name in named:
            named[view.frame.name].beside = view.points
    for view in named.values():
        if not len(view.beside):
            view.beside = _shown(lifter, view.frame, cloud.world_xyz[beside])
        masks = view.ask(segmenter)
        rows += _rows_below(lifter, view.frame, view.points if len(view.points) else _middle(view.frame, masks))
        lifter.add(view.frame, masks)
    others = [frame for frame in frames if frame.name not in named]
    chosen = _choose(lifter, others, cloud.world_xyz[rows], views)
    for view in read_ahead(chosen, lambda view: replace(view, frame=with_images(view.frame, color=True))):
        try:
            view.beside = _shown(lifter, view.frame, cloud.world_xyz[beside])
            lifter.add(view.frame, view.ask(segmenter))
        except FileError:
            lifter.skipped[view.frame.name] = "unreadable image"
    if not lifter.votes().num_frames:
        raise DataError(explain("no frame sees what was clicked on", got=f"{len(frames)} frames",
                                do="Click on what the images show; `pc3d frames check FRAMES SCAN` tries their conventions."))
    return _vote(lifter, rows, beside), lifter


def _row(cloud: PointCloud, click: int | tuple[float, ...]) -> int:
    """The point of the scan that a click means."""
    if isinstance(click, int | np.integer):
        if not 0 <= click < len(cloud):
            raise DataError(explain("there is no such point in the scan", got=click, expected=f"0 to {len(cloud) - 1}"))
        return int(click)
    if len(click) != 3 or not np.isfinite(click).all():
        raise DataError(explain("a click is a place in space", got=click, expected="x, y, z in metres"))
    distance = np.linalg.norm(cloud.xyz - (np.array(click, np.float64) - cloud.origin), axis=1)
    row = int(distance.argmin())
    if distance[row] > _REACH:
        raise DataError(explain("the click is off the scan", got=f"{distance[row]:.2f} m to its nearest point",
                                expected=f"up to {_REACH} m"))
    return row


def _named(frames: Sequence[Frame], given: Sequence[Pixels]) -> dict[str, View]:
    """A view of each frame that points and boxes name, with what they say there."""
    found: dict[str, View] = {}
    for name, values in given:
        frame = _called(frames, name)
        camera = frame.camera
        if len(values) not in (2, 4):
            raise DataError(explain("these are no pixels", where=f"frame {name}", got=values, expected="two numbers, or four"))
        corners = np.array(values, np.float64).reshape(-1, 2)
        if not _inside(camera, corners).all():
            raise DataError(explain("the pixel is outside the image", where=f"frame {name}", got=values,
                                    expected=f"{camera.width} x {camera.height}"))
        view = found.setdefault(frame.name, View(frame))
        if len(corners) == 1:
            view.points = np.concatenate([view.points, corners])
        else:
            view.box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return found


def _called(frames: Sequence[Frame], name: str) -> Frame:
    """The one frame of that name, or else the one whose name ends so after a folder: 0001 for cam0/0001."""
    fit = [frame for frame in frames if frame.name == name] or [frame for frame in frames if frame.name.endswith(f"/{name}")]
    if len(fit) != 1:
        known = ", ".join([frame.name for frame in fit or frames][:5]) + (", ..." if len(fit or frames) > 5 else "")
        raise DataError(explain("several frames have that name" if fit else "there is no such frame", got=name,
                                expected=f"one of {known}"))
    return fit[0]


def _middle(frame: Frame, masks: FrameMasks) -> NDArray[np.float64]:
    """The pixel (1, 2) of the colour image deepest inside a mask."""
    inside = np.pad(masks.ids[0] > 0, 1)
    if not inside.any():
        raise DataError(explain("there is no object in the box", where=f"frame {frame.name}"))
    v, u = np.unravel_index(distance_transform_edt(inside).argmax(), inside.shape)
    height, width = masks.ids.shape[1:]
    return (np.array([[u, v]]) - 0.5) * [frame.camera.width / width, frame.camera.height / height] - 0.5


def _rows_below(lifter: Lifter, frame: Frame, pixels: NDArray[np.float64]) -> list[int]:
    """Points of the scan at pixels (K, 2) of a colour image."""
    camera, depth, _ = lifter.depth_of(frame)
    rays = frame.camera.rays(pixels)
    at = camera.project(rays)
    inside = _inside(camera, at)
    column, row = np.rint(np.where(inside[:, None], at, 0)).astype(int).T
    z = np.where(inside, depth.numpy()[row, column], 0)
    if not (z > 0).all():
        raise DataError(explain("there is no depth at the pixel", where=f"frame {frame.name}",
                                got=pixels[np.flatnonzero(~(z > 0))[0]].round(1).tolist(), do="Take one beside it."))
    world = (rays * z[:, None]) @ frame.T_world_camera[:3, :3].T + frame.T_world_camera[:3, 3]
    return [_row(lifter.cloud, tuple(one)) for one in world.tolist()]


def _choose(lifter: Lifter, frames: Sequence[Frame], places: NDArray[np.float64], count: int) -> list[View]:
    """The best view of places (K, 3) in each of ``count`` stretches of the frames that see one."""
    near = [frame for frame in frames if np.isfinite(_pixels(frame, places)).any()]
    by_name = {frame.name: frame for frame in near}     # of those that are chosen the images are read again
    seen = []
    for frame in read_ahead(near, partial(with_images, color=False)):
        try:
            pixels = np.where(lifter.sees(frame, places)[:, None], _pixels(frame, places), np.nan)
        except FileError:
            lifter.skipped[frame.name] = "unreadable depth"
            continue
        shown = np.isfinite(pixels).all(axis=1)
        if shown.any():
            seen.append(View(by_name[frame.name], pixels[shown], worth=_worth(frame, places[shown], pixels[shown])))
    stretches = np.array_split(np.arange(len(seen)), min(count, len(seen))) if seen else []
    return [max((seen[i] for i in stretch), key=lambda view: view.worth) for stretch in stretches]


def _shown(lifter: Lifter, frame: Frame, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (P, 2) of the places (K, 3) that a frame shows."""
    if not len(places):
        return np.zeros((0, 2))
    pixels = _pixels(frame, places)
    return pixels[lifter.sees(frame, places) & np.isfinite(pixels).all(axis=1)]


def _pixels(frame: Frame, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixel (K, 2) of places (K, 3) on the colour image, NaN outside."""
    pose, camera = frame.T_world_camera, frame.camera
    pixels = camera.project((places - pose[:3, 3]) @ pose[:3, :3])
    inside = _inside(camera, pixels)
    return np.where(inside[:, None], pixels, np.nan)


def _inside(camera: Camera, pixels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pixels (K, 2) an image has."""
    return np.all((pixels >= -0.5) & (pixels < [camera.width - 0.5, camera.height - 0.5]), axis=1)


def _worth(frame: Frame, places: NDArray[np.float64], pixels: NDArray[np.float64]) -> float:
    """How well a frame shows places (K, 3): many of them, near the middle, from near."""
    half = np.array([frame.camera.width, frame.camera.height]) / 2
    aside = np.abs((pixels + 0.5) / half - 1).max(axis=1)       # 0 in the middle, 1 at the border
    away = np.linalg.norm(places - frame.T_world_camera[:3, 3], axis=1)
    return float(((1.2 - aside) / away).sum())


def _vote(lifter: Lifter, rows: list[int], beside: list[int]) -> Instances:
    """All masks are one group: of what most of them hold, the part that was meant. A view without a mask has no say.

    A superpoint that holds a point of ``beside``, and none of ``rows``, is not of the object.
    """
    votes, config = lifter.votes(), replace(lifter.config, min_masks=1)
    if not votes.num_masks:
        raise _nothing(votes)
    heard = np.isin(np.arange(votes.num_frames), votes.frame_of_mask[votes.counts.getnnz(axis=1) > 0])
    groups = Groups(np.zeros(votes.num_masks, np.int64), csr_matrix(heard[None]), np.ones(1))
    extent = detected(groups, membership(groups.group_of_mask, votes), votes, config)
    owner = lifter.scan.point_to_superpoint
    extent = extent.without(np.setdiff1d(owner[beside], owner[rows]), votes.pieces)
    touched = extent.touched(votes.pieces).indices
    inside, seen = (float(one[:, touched].sum()) for one in (votes.counts, votes.visible[heard]))
    found = finish(replace(groups, extent=extent, agreement=np.array([inside / max(seen, 1)])), votes, lifter.scan, config)
    if not len(found):
        raise _nothing(votes)
    best = int(found.point_masks[:, rows].sum(axis=1).argmax())
    return found[np.array([best])]


def _nothing(votes: Votes) -> DataError:
    return DataError(explain("the masks of the object hold no part of the scan in common",
                             got=f"{votes.num_frames} views, {votes.num_masks} masks", do="Click nearer to its middle."))
