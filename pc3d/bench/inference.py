"""``pc3d bench inference``: from the mesh of scene S to its instances, with a Relation3D of the paper's size, untrained.

The peer is the same network with the same weights as it is usually run: spconv convolves (``ConvAlgo.Native``, its one
algorithm that is right on a CPU), superpoint pooling and decoder are plain eager torch, and the masks are expanded to
points and encoded in a Python loop. Superpoints and voxels are pc3d's own on both sides, which flatters the peer.

The masks of an untrained network are all alike. So that reading instances has its usual work, both sides run the whole network
and then read generated masks: all superpoints around a random place, one per query, with random classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pc3d.bench.compare import Row, compare, measure
from pc3d.bench.decoder import EagerDecoder, about
from pc3d.bench.scene import make_scene
from pc3d.config import ModelConfig
from pc3d.data import collate, make_sample
from pc3d.engine import Segmenter
from pc3d.engine.precision import multiplies_bfloat16
from pc3d.errors import DataError, explain
from pc3d.models import Proposals, Relation3D, build, to_instances
from pc3d.nn.asam import ASAM
from pc3d.structures import Instances, LayerOutput, PointBatch, PointCloud, Relation3DOutput
from pc3d.superpoints import complete

CONFIG = ModelConfig(classes=tuple(f"class {i}" for i in range(18)))
MB = 1e6


def blobs(batch: PointBatch) -> Relation3DOutput:
    """An output with masks around random places, within 15 to 60 cm, and random classes."""
    generator = torch.Generator().manual_seed(0)
    queries, centroids = CONFIG.decoder.num_queries, _mean(batch.xyz, batch.point_to_superpoint, batch.num_superpoints)
    places = centroids[torch.randint(len(centroids), (queries,), generator=generator)]
    radius = 0.15 + 0.45 * torch.rand(queries, 1, generator=generator)
    masks = 20 * (radius - torch.cdist(places, centroids))
    classes = 3 * torch.randn(1, queries, len(CONFIG.classes) + 1, generator=generator)
    return Relation3DOutput([LayerOutput(classes, classes[..., 0], places[None], [masks])], [])


class Blobs(nn.Module):
    """A network that is run, and whose output is then another."""

    def __init__(self, network: Relation3D, output: Relation3DOutput) -> None:
        super().__init__()
        self.network, self.output, self.config = network, output, network.config

    def forward(self, batch: PointBatch) -> Relation3DOutput:
        self.network(batch)
        return self.output


class Own:
    """pc3d as anyone would call it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.scene, self.model = make_scene(), build(CONFIG).eval()
        network = cast(Relation3D, Blobs(self.model, blobs(make_batch(self.scene))))
        self.segmenter = Segmenter(network, "cpu")

    def __call__(self) -> Instances:
        """Mesh to instances."""
        return self.segmenter(self.scene).instances


class Peer:
    """The usual way with the same weights."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        model = build(CONFIG.with_overrides(["backbone.engine=spconv"]))
        model.load_state_dict(weights)
        self.scene, self.model = make_scene(), model.eval()
        self.decoder = EagerDecoder(self.model.decoder)
        self.output = blobs(make_batch(self.scene))

    @torch.inference_mode()
    def __call__(self) -> list[dict[str, Any]]:
        """Mesh to instances."""
        batch = make_batch(self.scene)
        self.network(batch)
        return usual_instances(self.output, batch)

    def network(self, batch: PointBatch) -> Relation3DOutput:
        """Output of the one scan of a batch."""
        model, ids = self.model, batch.point_to_superpoint
        voxels = _mean(batch.features, batch.point_to_voxel, len(batch.voxel_coords))
        voxels = model.backbone(voxels, batch.voxel_coords, batch.spatial_shape, 1)
        assert model.asam is not None
        superpoints = eager_asam(model.asam, voxels[batch.point_to_voxel], ids, batch.num_superpoints)
        classes, masks = self.decoder(superpoints, _mean(batch.xyz, ids, batch.num_superpoints))
        nothing = classes.new_zeros(1, len(classes))
        return Relation3DOutput([LayerOutput(classes[None], nothing, nothing[..., None].expand(-1, -1, 3), [masks])], [])


def make_batch(scene: PointCloud) -> PointBatch:
    """What the network eats: superpoints, normals and voxels of a mesh."""
    return collate([make_sample(complete(scene).replace(labels=None, instances=None), CONFIG)], CONFIG.backbone)


def _mean(x: Tensor, index: Tensor, count: int) -> Tensor:
    total = x.new_zeros(count, x.shape[1]).index_add_(0, index, x)
    return total / torch.bincount(index, minlength=count).clamp(min=1)[:, None]


def eager_asam(asam: ASAM, points: Tensor, ids: Tensor, count: int) -> Tensor:
    """ASAM with scatter and gather."""
    wide = ids[:, None].expand(points.shape)
    peak = points.new_zeros(count, points.shape[1]).scatter_reduce(0, wide, points, "amax", include_self=False)
    pooled = []
    for center, weigh in ((_mean(points, ids, count), asam.mean_weight), (peak, asam.max_weight)):
        logit = weigh(center[ids] - points)
        most = logit.new_zeros(count, 1).scatter_reduce(0, ids[:, None], logit, "amax", include_self=False)
        weight = (logit - most[ids]).exp()
        weight = weight / weight.new_zeros(count, 1).index_add_(0, ids, weight)[ids]
        pooled.append(points.new_zeros(count, points.shape[1]).index_add_(0, ids, weight * points))
    result: Tensor = asam.merge(torch.cat(pooled, dim=1))
    return result


def usual_instances(output: Relation3DOutput, batch: PointBatch) -> list[dict[str, Any]]:
    """Instances as dicts of label, score and run lengths, the way Python post-processing makes them."""
    options, layer = CONFIG.inference, output.layers[-1]
    probability, logits = layer.class_logits[0].softmax(dim=1)[:, :-1], layer.masks[0]
    masks, sizes = logits > 0, torch.bincount(batch.point_to_superpoint)
    inside = masks.float()
    quality = (logits.sigmoid() * inside).sum(1) / (inside.sum(1) + 1e-6)
    kept = _suppress(masks, probability.amax(dim=1) * quality, sizes, options.nms_iou)
    score, pair = probability[kept].flatten().topk(min(options.topk, len(kept) * probability.shape[1]))
    query, label = kept[pair // probability.shape[1]], pair % probability.shape[1]
    score = score * quality[query]
    order = score.argsort(descending=True, stable=True)
    on_points = masks[query[order]][:, batch.point_to_superpoint].int()
    passed = (score[order] > options.score_threshold) & (on_points.sum(dim=1) > options.min_points)
    return [{"label": int(label[row]), "score": float(score[row]), "runs": _run_lengths(mask)}
            for row, mask in zip(order[passed].tolist(), on_points[passed].numpy())]


def _suppress(masks: Tensor, scores: Tensor, sizes: Tensor, max_iou: float) -> Tensor:
    """Greedy NMS, mask by mask."""
    kept: list[int] = []
    rows = masks.float()
    intersection = (rows * sizes) @ rows.T
    area = intersection.diagonal()
    for row in scores.argsort(descending=True, stable=True).tolist():
        shared = intersection[row, kept]
        if not bool((shared / (area[row] + area[kept] - shared + 1e-6) > max_iou).any()):
            kept.append(row)
    return torch.tensor(kept)


def _run_lengths(mask: NDArray[np.int32]) -> str:
    """Starts and lengths of the runs of ones, as text."""
    edges = np.flatnonzero(np.diff(mask, prepend=0, append=0))
    edges[1::2] -= edges[::2]
    return " ".join(str(n) for n in edges)


def check(own: Own, peer: Peer) -> None:
    """Raise DataError unless the networks agree, and both read the same instances off one output."""
    batch = make_batch(own.scene)
    with torch.inference_mode():
        output, other = own.model(batch), peer.network(batch)
    for name in ("class_logits", "masks"):
        about(getattr(output.layers[-1], name)[0], getattr(other.layers[-1], name)[0])
    proposals = Proposals.of(peer.output, 0, CONFIG.inference)
    instances, usual = to_instances([proposals], batch.point_to_superpoint, CONFIG), usual_instances(peer.output, batch)
    runs = [_run_lengths(instances[row].point_masks[0].astype(np.int32)) for row in range(len(instances))]
    if [entry["runs"] for entry in usual] != runs or [entry["label"] for entry in usual] != instances.labels.tolist():
        raise DataError(explain("the two sides read other instances off one output", got=f"{len(instances)} instances",
                                expected=f"the peer's {len(usual)}"))


def peak_memory(side: str) -> float:
    """Bytes that one run adds to what a fresh process holds with its network loaded."""
    own = Own()
    run = own if side == "own" else Peer(own.model.state_dict())
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """Bytes of one memory figure of this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * float(next(line for line in lines if line.startswith(name)).split()[1])


def run(rounds: int) -> Iterator[Row]:
    """Float32 beside the peer, with the peak memory of both; then bf16, where the processor multiplies it."""
    own = Own()
    peer = Peer(own.model.state_dict())
    check(own, peer)
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # a process of its own for each: peaks never fall
        memory = {f"{side}_peak_mb": pool.apply(peak_memory, (side,)) / MB for side in ("own", "peer")}
    row = compare("mesh to instances, scene S", own, peer, rounds, peer_name="spconv + eager + Python",
                  same=lambda mine, theirs: None, figures=memory)
    stages = {f"{stage}_seconds": seconds for stage, seconds in own.segmenter(own.scene).seconds.items()}
    yield replace(row, figures={**memory, **stages})
    if multiplies_bfloat16():
        half = Segmenter(own.segmenter.model, "cpu", "bf16")
        yield measure("the same in bf16", lambda: half(own.scene), rounds)
