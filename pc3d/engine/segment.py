"""From a scan to its instances."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pc3d import lift
from pc3d.config import ModelConfig
from pc3d.data import collate, make_sample
from pc3d.engine.device import choose_device
from pc3d.engine.precision import forward_in, type_of
from pc3d.engine.stopwatch import Stopwatch
from pc3d.errors import ConfigError, DataError, explain
from pc3d.io import read, write_result
from pc3d.lift.segmenters import Segmenter as MaskSource
from pc3d.models import Proposals, Relation3D, join_tiles, load_model, split_at_gaps, to_instances
from pc3d.ops import voxel_ids
from pc3d.ops.voxel_ids import LIMIT
from pc3d.progress import track
from pc3d.structures import Frame, Instances, PointCloud
from pc3d.superpoints import complete
from pc3d.transforms import cut_tiles, view
from pc3d.weights import DEFAULT_MODEL, MIN_SCORE

THIN = 20   # voxels; where most points have a cube of so many to themselves, nothing is found


@dataclass(frozen=True)
class Segmentation:
    """Instances on the rows of ``cloud``, the seconds each stage took, and what images said, where they were asked."""

    cloud: PointCloud
    instances: Instances
    seconds: dict[str, float]
    lifter: lift.Lifter | None = None


class Segmenter:
    """A loaded network that segments scans; load once, call many times."""

    def __init__(self, model: Relation3D, device: str = "auto", precision: str | None = None,
                 views: int | None = None, tile: float | None = None) -> None:
        """``precision`` fp32 or bf16, ``views`` 1 to 4 sides to look from, and the metres of a ``tile`` of a large scan, 0 for
        any scan in one piece; None is what the network's own config says.

        bf16 is float32 on a CPU without bfloat16 units; ``dtype`` says what it came to. Raises ConfigError for others.
        """
        if not isinstance(model, torch.nn.Module):
            raise ConfigError(explain("this is no network", got=repr(model)[:100],
                                      do="Segmenter.from_pretrained takes a name or a path."))
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        given = {"views": views, "tile": tile}
        self.config = model.config.with_overrides(f"inference.{name}={value}" for name, value in given.items()
                                                  if value is not None)
        self.dtype = type_of(model.config.inference.precision if precision is None else precision, self.device)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = DEFAULT_MODEL, device: str = "auto",
                        precision: str | None = None, views: int | None = None, tile: float | None = None) -> Segmenter:
        """Load a network that ships with pc3d by name, or one of your own by path."""
        return cls(load_model(name_or_path), device, precision, views, tile)

    @torch.inference_mode()
    def __call__(self, cloud: PointCloud) -> Segmentation:
        """Find the instances of a scan (z up, metres); row i of every mask is row i of ``cloud``.

        Superpoints and normals that the cloud brings are used; missing ones are computed. A scan that is larger than the tile
        of the config is looked at in overlapping tiles; what is found is joined.
        Warns of a scan that is too thin, as one in centimetres is. Raises DataError for an empty cloud or non-finite rows.
        """
        if not isinstance(cloud, PointCloud):
            raise DataError(explain("this is no scan that was read", got=type(cloud).__name__, expected="a PointCloud",
                                    do="pc3d.read gives one; pc3d.segment takes paths too."))
        watch = Stopwatch(self.device)
        cloud.validate(source=cloud.metadata.get("file", "point cloud"))
        _warn_if_thin(cloud, self.config)
        with watch.stage("superpoints"):
            prepared = complete(cloud)
        assert prepared.superpoints is not None
        bare, options = prepared.replace(faces=None, labels=None, instances=None, attributes={}), self.config.inference
        tiles = cut_tiles(prepared.xyz, options.tile)
        if len(tiles) == 1:
            return Segmentation(prepared, self._find(bare, watch), watch.seconds)
        tiles = [rows for rows in tiles if len(rows) > options.min_points] or tiles[:1]     # in others nothing is found
        found = [self._find(bare[rows], watch) for rows in track(tiles, "tiles")]
        with watch.stage("instances"):
            instances = join_tiles(tiles, found, prepared.superpoints, options)
        return Segmentation(prepared, instances, watch.seconds)

    def _find(self, cloud: PointCloud, watch: Stopwatch) -> Instances:
        """The instances of a scan, or a tile of one, with superpoints and normals, looked at from all sides."""
        config, views = self.config, []
        for index in range(config.inference.views):
            with watch.stage("voxels"):
                sample = make_sample(view(cloud, index, grey=config.inference.grey_views), config)
                batch = collate([sample], config.backbone).to(self.device)
            with watch.stage("network"):
                views.append(Proposals.of(forward_in(self.model, batch, self.dtype), 0, config.inference))
        with watch.stage("instances"):
            instances = to_instances(views, batch.point_to_superpoint, config)
            return instances if config.inference.split_gap is None else split_at_gaps(instances, cloud.xyz, config.inference)


def _warn_if_thin(cloud: PointCloud, config: ModelConfig) -> None:
    """Warn where most points have a cube of ``THIN`` voxels to themselves.

    With the network that ships, rooms of `val` have one such cube to 1,000 points, a hundredth of their points one to 12;
    in inches it is one to 1.4 points, in centimetres to 1.1.
    """
    side, points = THIN * config.backbone.voxel_size, torch.from_numpy(cloud.xyz)
    cubes = len(voxel_ids(((points - points.amin(0)) / side).clamp(max=LIMIT - 1))[0])
    if 2 * cubes > len(cloud) > config.inference.min_points:
        warnings.warn(explain(
            f"points lie so far apart that most have {side:g} m to themselves", where=cloud.metadata.get("file", "point cloud"),
            got=f"{len(cloud):,} points in {cloud.size}", expected="metres",
            do="docs/formats.md says how a scan in centimetres, millimetres or inches is scaled."), stacklevel=4)


def confident(instances: Instances, min_score: float = MIN_SCORE) -> Instances:
    """What a user wants to see: instances that score at least ``min_score`` and are mostly not part of better ones.

    The network lists a mask under several classes and offers overlapping masks, because average precision asks for that.
    Here the best one takes its points, and a later one stays only if it owns more than half of its own.
    """
    instances = instances[instances.scores >= min_score]
    sizes, masks = instances.segment_sizes, instances.segment_masks
    taken = np.zeros(instances.num_segments, dtype=bool)
    kept = []
    for row in np.argsort(-instances.scores, kind="stable"):
        if 2 * sizes[masks[row] & ~taken].sum() > sizes[masks[row]].sum():
            taken |= masks[row]
            kept.append(row)
    return instances[np.array(kept, dtype=np.int64)]


def add_images(found: Segmentation, frames: Iterable[Frame], masks: MaskSource, method: str = "hierarchical") -> Segmentation:
    """Refine what the network found (all of it, not only the confident) by the masks of posed images, and add what it missed.

    Frames must be in the scan's coordinates. Raises DataError when no frame sees the scan. See ``lift.fuse``.
    """
    watch = Stopwatch(torch.device("cpu"))
    with watch.stage("images"):
        lifted, lifter = lift.lift(found.cloud, frames, masks, method=method)
    with watch.stage("fusion"):
        instances = lift.fuse(found.instances, lifted, lifter.votes())
    return replace(found, instances=instances, seconds=found.seconds | watch.seconds, lifter=lifter)


def segment(scan: str | Path | PointCloud, output: str | Path | None = None, *, model: str | Path = DEFAULT_MODEL,
            device: str = "auto", precision: str | None = None, views: int | None = None, tile: float | None = None,
            min_score: float = MIN_SCORE, frames: Iterable[Frame] | None = None,
            masks: MaskSource | None = None) -> Segmentation:
    """Find the confident instances of a scan file (or cloud); with ``output``, write them as .ply, .json and .npz there.

    With ``frames`` in the scan's coordinates and a source of their ``masks``, images refine and add to what the network finds.
    The seconds of the result also hold reading the scan and loading the network.
    """
    if (frames is None) != (masks is None):
        raise ConfigError(explain("frames and masks go together", got=f"only {'masks' if frames is None else 'frames'}",
                                  do="Give posed frames and what finds masks in them."))
    watch = Stopwatch(choose_device(device))
    with watch.stage("reading"):
        cloud = scan if isinstance(scan, PointCloud) else read(scan)
    with watch.stage("loading"):
        segmenter = Segmenter.from_pretrained(model, device, precision, views, tile)
    found = segmenter(cloud)
    if frames is not None and masks is not None:
        found = add_images(found, frames, masks)
    found = replace(found, instances=confident(found.instances, min_score), seconds=watch.seconds | found.seconds)
    if output is not None:
        write_result(output, cloud, found.instances)
    return found
