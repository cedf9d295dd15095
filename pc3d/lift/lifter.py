"""The lifter: frames and their masks in, one after another; instances out, whenever they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from pc3d import ops
from pc3d.errors import ConfigError, DataError, FileError, explain
from pc3d.lift.ahead import held, read_ahead
from pc3d.lift.config import LiftConfig
from pc3d.lift.masks import FrameMasks
from pc3d.lift.methods import GROUPERS, associate
from pc3d.lift.scan import LiftScan
from pc3d.lift.view import pack_camera, pack_pose
from pc3d.lift.votes import Votes
from pc3d.structures import Camera, Frame, Instances, PointCloud

if TYPE_CHECKING:
    from pc3d.lift.segmenters import Segmenter

_Waiting = tuple[str, FrameMasks, ops.FrameView]    # a frame to be counted: its name, its masks, what the op takes
_ENOUGH = 2**27  # bytes of images to count at once: some tens of frames, so that no core is without one for long
_BLIND = "sees nothing of the scan"
_RENDERED_TOLERANCE = 2.5  # point spacings: of a surface at a slant, a pixel as wide as the spacing holds the nearest point


class Lifter:
    """Collects the votes of frames on the superpoints of a scan.

    Counts of frames add up, so frames given one by one, with instances asked for in between, end as they would all at once.
    Frames must be in the scan's coordinates (``Frame.moved``, ``Convention.apply``).
    """

    def __init__(self, cloud: PointCloud, config: LiftConfig | None = None) -> None:
        self.cloud = cloud
        self.config = config or LiftConfig()
        self.scan = LiftScan.from_cloud(cloud)
        self.skipped: dict[str, str] = {}           # frame -> why it does not count
        self.classes: tuple[str, ...] = ()          # of the masks so far
        self._frames: list[str] = []
        self._about: list[tuple] = []               # (scores, labels, tracks) of their masks: the planes need not be kept
        self._counted: list[ops.Counted] = []       # what they see, some frames at a time; the masks of each from 1
        self._cameras: dict[Camera, torch.Tensor] = {}
        self._count([])                             # so that there are rows, if none, to join

    def add(self, frame: Frame, masks: FrameMasks, depth: NDArray[np.float32] | None = None) -> None:
        """Count one frame; ``depth`` saves reading it again. Without depth the scan itself says what is hidden.

        A frame that sees nothing of the scan, or whose depth cannot be read, is noted in ``skipped``.
        """
        self.extend([(frame, masks, depth)])

    def extend(self, frames: Iterable[tuple[Frame, FrameMasks, NDArray[np.float32] | None]]) -> None:
        """Count many frames as ``add`` does each, but some at once, on all cores.

        Up to 128 MiB of images wait for that in memory, and must not change. Where a frame is refused with an error, those
        before it count.
        """
        waiting: list[_Waiting] = []
        size = 0
        try:
            for frame, masks, depth in frames:
                if (view := self._view(frame, masks, depth)) is not None:
                    waiting.append((frame.name, masks, view))
                    size += view.depth.nbytes + view.masks.nbytes
                if size >= _ENOUGH:
                    waiting, size = self._count(waiting), 0
        finally:
            if waiting:
                self._count(waiting)

    def votes(self) -> Votes:
        """All counts so far."""
        scores, labels, tracks = (np.concatenate([np.zeros(0, dtype), *parts]) for dtype, parts in zip(
            (np.float32, np.int64, np.int64), zip(*self._about) if self._about else ((), (), ())))
        num_masks = np.array([len(one) for one, _, _ in self._about], np.int64)
        *tables, numbers = zip(*self._counted)
        each = torch.cat(numbers)
        counted = each[each[:, 0] > 0].T.contiguous()       # of frames that see something
        frames, masks = torch.ones(len(num_masks), dtype=torch.int64), torch.from_numpy(num_masks)
        superpoints, pieces = len(self.scan.sizes), len(self.scan.pieces.sizes)
        visible, counts, piece_visible, piece_counts = (
            _matrix(ops.frame_rows(table, number, rows, count), count) for table, number, rows, count in zip(
                tables, counted, (frames, masks) * 2, (superpoints, superpoints, pieces, pieces)))
        frame_of_mask = np.repeat(np.arange(len(num_masks)), num_masks)
        return Votes(counts, visible, frame_of_mask, scores, labels, tracks, self.scan.sizes, self.scan.pieces, piece_counts,
                     piece_visible, self.classes, tuple(self._frames))

    def instances(self, method: str = "hierarchical") -> Instances:
        """Associate all masks so far: hierarchical, consensus, region, or sequential (the naive baseline)."""
        _check_method(method)
        return associate(self.votes(), self.scan, self.config, method)

    def sees(self, frame: Frame, places: NDArray[np.float64], depth: NDArray[np.float32] | None = None) -> NDArray[np.bool_]:
        """Which places (K, 3) of the world are in the depth image of a frame, and not behind what it shows there."""
        camera, image, tolerance = self.depth_of(frame, depth)
        from_camera = (places - frame.T_world_camera[:3, 3]) @ frame.T_world_camera[:3, :3]
        at, z = np.rint(camera.project(from_camera)), from_camera[:, 2]
        inside = ((at >= 0) & (at < [camera.width, camera.height])).all(axis=1) & (z >= self.config.min_depth)
        u, v = np.where(inside[:, None], at, 0).astype(np.int64).T
        shown = image.numpy()[v, u]
        near = np.abs(z - shown) <= np.maximum(tolerance, self.config.depth_tolerance_rel * z)
        return inside & near & (shown > 0)

    def depth_of(self, frame: Frame, depth: NDArray[np.float32] | None = None) -> tuple[Camera, torch.Tensor, float]:
        """Camera and image of the depth of a frame, or else of the scan there, and how far a point may be from it."""
        if depth is None and not frame.has_depth:
            camera, rendered = self.scan.render_depth(frame.camera, frame.T_world_camera)
            return camera, rendered, max(self.config.depth_tolerance, _RENDERED_TOLERANCE * self.scan.spacing)
        image = frame.depth if depth is None else depth
        if image.shape != (frame.depth_camera.height, frame.depth_camera.width):
            raise DataError(explain("the depth image has another size than its camera", where=f"frame {frame.name}",
                                    got=image.shape, expected=(frame.depth_camera.height, frame.depth_camera.width)))
        return frame.depth_camera, torch.from_numpy(np.require(image, np.float32, ("C", "W"))), self.config.depth_tolerance

    def _view(self, frame: Frame, masks: FrameMasks, depth: NDArray[np.float32] | None) -> ops.FrameView | None:
        """The frame as the op takes it; None for one whose depth cannot be read."""
        if masks.classes and self.classes not in ((), masks.classes):
            raise DataError(explain("all frames must name the same classes", where=f"frame {frame.name}",
                                    got=masks.classes, expected=self.classes))
        self.classes = self.classes or masks.classes
        try:
            camera, image, tolerance = self.depth_of(frame, depth)
        except FileError:
            self.skipped[frame.name] = "unreadable depth"
            return None
        height, width = masks.ids.shape[1:]
        mask_camera = frame.camera
        if (mask_camera.width, mask_camera.height) != (width, height):
            mask_camera = mask_camera.resized(width, height)
        ids = torch.from_numpy(np.require(masks.ids, requirements=("C", "W")).view(np.int16))
        return ops.FrameView(pack_pose(frame.T_world_camera, self.scan.origin), image, self._packed(camera), ids,
                             self._packed(mask_camera), len(masks), tolerance)

    def _count(self, frames: list[_Waiting]) -> list[_Waiting]:
        """Count frames, and return that none of them waits any more."""
        scan, config = self.scan, self.config
        counted = ops.lift_vote(
            scan.xyz, scan.starts, scan.owners, scan.boxes, scan.piece_of_point, [view for *_, view in frames],
            near=config.min_depth, relative=config.depth_tolerance_rel, cut_share=config.cut_share,
            cut_points=config.cut_points)
        self._counted.append(counted)
        for (name, masks, _), seen in zip(frames, counted.rows[:, 0].tolist()):
            if not seen:
                self.skipped[name] = _BLIND
                continue
            self._frames.append(name)
            self._about.append((masks.scores, masks.labels, np.full(len(masks), -1) if masks.tracks is None else masks.tracks))
        return []

    def _packed(self, camera: Camera) -> torch.Tensor:
        if camera not in self._cameras:
            self._cameras[camera] = pack_camera(camera)
        return self._cameras[camera]


def _matrix(rows: ops.SparseRows, count: int) -> csr_matrix:
    """Sparse rows (R, ``count``) as scipy has them."""
    starts, columns, values = (one.numpy() for one in rows)
    return csr_matrix((values, columns, starts), shape=(len(starts) - 1, count))


def _check_method(method: str) -> None:
    if method not in GROUPERS:
        raise ConfigError(explain("unknown way to associate masks", got=repr(method), expected=", ".join(GROUPERS)))


def lift(cloud: PointCloud, frames: Iterable[Frame], segmenter: Segmenter, *, method: str = "hierarchical",
         config: LiftConfig | None = None) -> tuple[Instances, Lifter]:
    """Lift the masks that a segmenter finds in frames onto a scan with superpoints.

    Files of the next frames are read, decoded and, by what the segmenter's ``ahead`` says, segmented in background threads
    while one is counted. Frames that cannot be used are listed in ``Lifter.skipped``. Raises DataError when none can be.
    """
    _check_method(method)   # before the frames, which may take hours
    lifter = Lifter(cloud, config)
    with closing(read_ahead(frames, partial(_prepare, segmenter))) as prepared:
        lifter.extend(_usable(prepared, lifter.skipped))
    if not lifter._frames:
        blind = _BLIND in lifter.skipped.values()
        raise DataError(explain(
            "no frame sees the scan" if blind else "no frame can be used",
            got=dict(islice(lifter.skipped.items(), 3)) or "no frames",
            do=f"The scan, {cloud.size}, and the poses must be in metres, in one world; `pc3d frames check FRAMES SCAN` tries "
               "the usual conventions of poses and depth." if blind else None))
    return lifter.instances(method), lifter


def _usable(prepared: Iterable[tuple[Frame, Callable[[], FrameMasks]]],
            skipped: dict[str, str]) -> Iterator[tuple[Frame, FrameMasks, NDArray[np.float32] | None]]:
    """Frames with what can be read; why others are of no use is noted."""
    for frame, masks_of in prepared:
        try:
            depth = frame.depth if frame.has_depth else None
        except FileError:
            skipped[frame.name] = "unreadable depth"
            continue
        try:
            masks = masks_of()
        except FileError as error:
            skipped[frame.name] = f"no masks: {_reason(error)}"
            continue
        yield frame, masks, depth


def _prepare(segmenter: Segmenter, frame: Frame) -> tuple[Frame, Callable[[], FrameMasks]]:
    """The frame with what can be read of it in the background in memory, and what gives its masks."""
    ahead = getattr(segmenter, "ahead", None)
    frame = with_images(frame, color=ahead == "image")
    masks = partial(segmenter, frame)
    return frame, held(masks) if ahead == "masks" else masks


def with_images(frame: Frame, *, color: bool) -> Frame:
    """A frame whose depth, and ``color`` if wanted, are read now; an error of it stays to be raised where it is used."""
    return replace(frame, read_depth=frame.read_depth and held(frame.read_depth),
                   read_rgb=held(frame.read_rgb) if color else frame.read_rgb)


def _reason(error: Exception) -> str:
    """What was wrong, without the place: frames with the same fault are counted together."""
    text = str(error).split(": ", 1)
    return (text[1] if len(text) > 1 else text[0]).split(";")[0].split(". ")[0]
