"""SAM 2 and SAM 3 video: objects found on some frames and followed through the others, so that every mask bears its track."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from pc3d.lift.masks import FrameMasks
from pc3d.lift.segmenters.checkpoint import Checkpoint, load, prepare
from pc3d.lift.segmenters.prompted import FAMILIES, Found, mask_iou, suppress
from pc3d.structures import Frame


class Family(NamedTuple):
    """How one generation of SAM follows objects."""

    architecture: str
    session: str
    types: Collection[str]


TRACKERS = {
    "sam2": Family("Sam2VideoModel", "Sam2VideoInferenceSession", {"sam2_video"}),
    "sam3": Family("Sam3TrackerVideoModel", "Sam3TrackerVideoInferenceSession", {"sam3_video", "sam3_tracker_video"}),
}


class Finder(Protocol):
    """What looks for new objects: a PromptedSegmenter, or a ConceptSegmenter."""

    checkpoint: Checkpoint

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels."""

    def find(self, rgb: NDArray[np.uint8]) -> Found:
        """All masks of an image."""


@dataclass(frozen=True)
class VideoOptions:
    """When to look for objects, and how long to follow them."""

    look: int = 10          # new objects are looked for on every n-th frame, and whenever nothing is followed
    free: float = 0.5       # of a new object's pixels, at least, that no object followed so far holds
    lost: int = 8           # frames without an object after which it is given up
    same: float = 0.8       # IoU of two objects' masks above which they are one: the older goes on
    tracks: int = 64        # objects followed at a time: work and memory grow with them


@dataclass(eq=False)
class Track:
    """One object that is followed: its memory in the model, and where it is now."""

    number: int
    label: int              # -1 for none
    found: float            # score of the mask that it began with
    session: Any
    mask: Tensor            # (h, w) bool, on the frame where it was seen last
    seen: int               # that frame
    score: float = 0.0


class VideoSegmenter:
    """Masks of frames that come in their order. It remembers: each call goes on from the frame before.

    Objects that ``finder`` finds on the first frame are followed by the model's memory; every ``look`` frames it is asked
    again, and what lies on pixels that no object holds begins a track. A track keeps what the model can reach back to
    (7 frames, pointers to 16), whatever the length of the sequence.
    """

    ahead = "image"

    def __init__(self, family: str, source: str, finder: Finder, device: str = "cpu",
                 options: VideoOptions | None = None) -> None:
        self.options, self.finder, (architecture, session, types) = options or VideoOptions(), finder, TRACKERS[family]
        self.checkpoint: Checkpoint = load(source, architecture, types, device)
        self.classes = finder.classes
        self._mean_std, self._session = FAMILIES[family].mean_std, session
        model, other = self.checkpoint.model, finder.checkpoint.model
        other.vision_encoder.backbone = model.vision_encoder.backbone       # the same weights: most of them are held once
        self._reach = max(model.config.num_maskmem, model.config.max_object_pointers_in_encoder)
        self.tracks: list[Track] = []
        self._features: Any = None      # the encoded image, shared by the memories of all objects
        self._frame = self._count = 0

    @property
    def _size(self) -> tuple[int, int]:
        """Of the masks."""
        height, width = self.checkpoint.model.prompt_encoder.mask_input_size
        return int(height), int(width)

    @torch.no_grad()
    def __call__(self, frame: Frame) -> FrameMasks:
        """Masks of the next frame, each with the number of its track."""
        rgb = frame.rgb
        pixels = self._prepare(rgb)
        for track in self.tracks:
            self._step(track, pixels)
        self._drop_doubles()
        if self._frame % self.options.look == 0 or not self.tracks:
            self._look(rgb, pixels)
        here = [track for track in self.tracks if track.seen == self._frame]
        self.tracks = [track for track in self.tracks if self._frame - track.seen < self.options.lost]
        self._frame += 1
        masks = torch.stack([track.mask for track in here]) if here else torch.zeros((0, *self._size), dtype=torch.bool)
        return FrameMasks.from_masks(masks.cpu().numpy(), np.array([track.score for track in here]),
                                     np.array([track.label for track in here], np.int64), self.classes,
                                     tracks=np.array([track.number for track in here], np.int64))

    def _prepare(self, rgb: NDArray[np.uint8]) -> Tensor:
        settings, (mean, std) = self.checkpoint.settings, self._mean_std
        side = int(np.ravel(self.checkpoint.model.image_size)[0])
        return prepare(torch.tensor(rgb, device=self.checkpoint.device), (side, side), (side, side),
                       settings.get("image_mean", mean), settings.get("image_std", std))

    def _look(self, rgb: NDArray[np.uint8], pixels: Tensor) -> None:
        """Begin a track for every object, the surest first, most of which no track holds."""
        found, held = self.finder.find(rgb), torch.zeros(self._size, dtype=torch.bool, device=self.checkpoint.device)
        for track in self.tracks:
            if track.seen == self._frame:
                held |= track.mask
        for row in found.scores.argsort(descending=True, stable=True).tolist():
            mask = _resized(found.masks[row].to(held.device), self._size)
            free, area = int((mask & ~held).sum()), int(mask.sum())
            if len(self.tracks) < self.options.tracks and free >= max(1, self.options.free * area):
                self._begin(found.masks[row], mask, int(found.labels[row]), float(found.scores[row]), pixels)
                held |= mask

    def _drop_doubles(self) -> None:
        """Of tracks that run into one, the oldest goes on."""
        here = [track for track in self.tracks if track.seen == self._frame]
        if here:
            age = torch.tensor([-float(track.number) for track in here])
            kept = suppress(mask_iou(torch.stack([track.mask for track in here])).cpu(), age, self.options.same)
            doubles = {track.number for track in here} - {here[row].number for row in kept.tolist()}
            self.tracks = [track for track in self.tracks if track.number not in doubles]

    def _begin(self, found: Tensor, mask: Tensor, label: int, score: float, pixels: Tensor) -> None:
        """A track from a mask as it was found, and at the size of this model's masks."""
        session = self._new_session()
        given = _resized(found.to(self.checkpoint.device), (pixels.shape[2], pixels.shape[3]))
        session.add_mask_inputs(session.obj_id_to_idx(0), self._frame, given[None, None])
        session.obj_with_new_inputs = [0]
        track = Track(self._count, label, score, session, mask, self._frame)
        self._step(track, pixels)
        session.mask_inputs_per_obj[0].clear()
        self.tracks.append(track)
        self._count += 1

    def _step(self, track: Track, pixels: Tensor) -> None:
        """Follow an object into this frame."""
        session = track.session
        out = self.checkpoint.model(session, frame=pixels, frame_idx=self._frame)
        mask = out.pred_masks[0, 0] > 0
        if mask.any():      # the model empties the mask of what it does not see
            track.mask, track.seen = mask, self._frame
            track.score = track.found * float(out.object_score_logits.sigmoid())
        self._forget(session)

    def _forget(self, session: Any) -> None:
        """Drop what later frames never ask for: images, large masks, frames out of the memory's reach."""
        session.processed_frames.clear()
        session.frames_tracked_per_obj[0].clear()
        outputs = session.output_dict_per_obj[0]
        past = outputs["non_cond_frame_outputs"]
        for number in [number for number in past if number < self._frame + 2 - self._reach]:
            del past[number]
        for one in (*past.values(), *outputs["cond_frame_outputs"].values()):
            one.pop("high_res_masks", None)
            one.pop("pred_masks", None)

    def _new_session(self) -> Any:
        """Memory of one object."""
        import transformers

        device = self.checkpoint.device
        session = getattr(transformers, self._session)(inference_device=device, inference_state_device=device,
                                                       video_storage_device=device, dtype=torch.float32)
        self._features = session.cache = self._features or session.cache
        return session


def _resized(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A boolean mask (h, w) at another size."""
    return interpolate(mask[None, None].float(), size=size, mode="bilinear", antialias=True, align_corners=False)[0, 0] >= 0.5
