"""AP of lifting on synthetic rooms: true masks, masks broken by the noise model, without depth, labels, or most frames; every
way to associate them; alone and with the network.

The tables of docs/lifting.md: ``python tools/measure_lifting.py``. Class-agnostic AP by the protocol "objects", each mask once;
labelled AP by ScanNet's, on its 18 classes. "bound" is what the scan's superpoints allow, each given to the object that most of
its points belong to. With ``--segmenter``, words as for ``pc3d lift``, the masks are those of a 2D model instead; with
``--tracks`` some of the same, with and without the tracks of a perfect video model.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pc3d.engine import Segmenter
from pc3d.lift import FrameMasks, Lifter, fuse
from pc3d.lift.methods import GROUPERS
from pc3d.lift.segmenters import make_segmenter
from pc3d.metrics import ClassAgnosticAP, InstanceAP
from pc3d.structures import Instances, PointCloud
from pc3d.synth import SCANNET_CLASSES, MaskNoise, View, make_views, noisy_masks

Masks = Callable[[View, np.random.Generator], FrameMasks]
USUAL = ("hierarchical",)


class Source(NamedTuple):
    """Masks of the frames of a room, which of them, and how they are associated."""

    masks: Masks
    depth: bool = True
    every: int = 1
    methods: tuple[str, ...] = tuple(GROUPERS)


def truth(view: View, rng: np.random.Generator) -> FrameMasks:
    """The true masks of a view."""
    return noisy_masks(view.instances, view.labels, SCANNET_CLASSES, MaskNoise.none(), rng)


def noisy(view: View, rng: np.random.Generator) -> FrameMasks:
    """Its masks with the faults of the noise model."""
    return noisy_masks(view.instances, view.labels, SCANNET_CLASSES, MaskNoise(), rng)


def unlabelled(view: View, rng: np.random.Generator) -> FrameMasks:
    """The same without labels, as SAM gives them."""
    masks = noisy(view, rng)
    return replace(masks, labels=np.full(len(masks), -1), classes=())


def tracked(masks: Masks) -> Masks:
    """The same masks, each with the number of the true object that it shows most of, if any: a video model at its best."""
    def found(view: View, rng: np.random.Generator) -> FrameMasks:
        own = masks(view, rng)
        shown = np.zeros((len(own) + 1, view.instances.max() + 2), np.int64)
        np.add.at(shown, (own.ids[0], view.instances), 1)           # the last column is no object
        track = shown[1:].argmax(axis=1)
        return replace(own, tracks=np.where(track < shown.shape[1] - 1, track, -1))
    return found


SOURCES = {
    "true": Source(truth),
    "true, no depth": Source(truth, depth=False),
    "noisy": Source(noisy),
    "noisy, no labels": Source(unlabelled, methods=USUAL),
    "noisy, every 4th frame": Source(noisy, every=4, methods=USUAL),
    "noisy, every 4th, no labels": Source(unlabelled, every=4, methods=USUAL),
}
TRACKS = {
    name + words: Source(make(masks), every=every, methods=("hierarchical", "consensus", "region"))
    for name, masks, every in (("noisy", noisy, 1), ("noisy, every 4th", noisy, 4), ("true, every 4th", truth, 4))
    for words, make in (("", lambda masks: masks), (", tracks", tracked))
}


def masks_found(segmenter: str) -> dict[str, Source]:
    """What a 2D model finds, as the only source."""
    found = make_segmenter(segmenter)
    return {segmenter: Source(lambda view, rng: found(view.frame))}


def bound(cloud: PointCloud) -> Instances:
    """Every object as the superpoints that it owns most of."""
    truth = np.zeros((cloud.superpoints.max() + 1, cloud.instances.max() + 2))
    np.add.at(truth, (cloud.superpoints, cloud.instances), 1)       # the last column is no object
    owner, count = truth.argmax(axis=1), truth.shape[1] - 1
    labels = np.array([cloud.labels[cloud.instances == one][0] for one in range(count)])
    return Instances.from_masks(owner[None] == np.arange(count)[:, None], labels, np.ones(count), SCANNET_CLASSES,
                                cloud.superpoints)


def lifted(cloud: PointCloud, views: list[View], source: Source, seed: int) -> Lifter:
    """The votes of every view that counts."""
    rng, lifter = np.random.default_rng(seed), Lifter(cloud)
    lifter.extend((view.frame if source.depth else replace(view.frame, read_depth=None), source.masks(view, rng), None)
                  for view in views[::source.every])
    return lifter


def results(sources: dict[str, Source], split: str, seed: int, rooms: int) -> Iterator[tuple[str, str, PointCloud, Instances]]:
    """(masks, method, scan, instances) of every room for every row of the table."""
    segmenter = Segmenter.from_pretrained()
    for room in range(seed, seed + rooms):
        cloud, views = make_views(room, split=split)
        network = segmenter(cloud).instances
        yield "", "bound", cloud, bound(cloud)
        yield "", "network", cloud, network
        for name, source in sources.items():
            lifter = lifted(cloud, views, source, room)
            for method in source.methods:
                yield name, method, cloud, lifter.instances(method)
            yield name, "with network", cloud, fuse(network, lifter.instances(), lifter.votes())


def measure(sources: dict[str, Source], split: str, seed: int, rooms: int) -> list[dict[str, object]]:
    """One row of figures for each (masks, method)."""
    metrics: dict[tuple[str, str], tuple[ClassAgnosticAP, InstanceAP]] = {}
    for source, method, cloud, instances in results(sources, split, seed, rooms):
        agnostic, labelled = metrics.setdefault(
            (source, method), (ClassAgnosticAP(SCANNET_CLASSES, "objects"), InstanceAP(SCANNET_CLASSES)))
        agnostic.add(cloud.labels, cloud.instances, each_once(instances))
        known = np.array([SCANNET_CLASSES.index(name) if name in SCANNET_CLASSES else -1 for name in instances.classes])
        named = known[instances.labels] >= 0
        labelled.add(cloud.labels, cloud.instances, replace(instances[named], labels=known[instances.labels[named]],
                                                            classes=SCANNET_CLASSES))
    rows = []
    for (source, method), (agnostic, labelled) in metrics.items():
        one, two = agnostic.result(), labelled.result()
        rows.append({"masks": source, "method": method, "ap": one.ap, "ap50": one.ap50, "ap25": one.ap25,
                     "labelled_ap": two.ap, "labelled_ap50": two.ap50, "labelled_ap25": two.ap25})
    return rows


def each_once(instances: Instances) -> Instances:
    """The best row of each mask: a network lists a mask under several classes."""
    best = np.argsort(-instances.scores, kind="stable")
    return instances[best[np.sort(np.unique(instances.bits[best], axis=0, return_index=True)[1])]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--split", default="val")
    parser.add_argument("--seed", type=int, default=10000)
    parser.add_argument("--rooms", type=int, default=20)
    parser.add_argument("--segmenter", help="a 2D model instead of the truth and the noise model")
    parser.add_argument("--tracks", action="store_true", help="what tracks of masks are worth")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("error", RuntimeWarning)
    sources = TRACKS if options.tracks else SOURCES if options.segmenter is None else masks_found(options.segmenter)
    rows = measure(sources, options.split, options.seed, options.rooms)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{options.rooms} rooms of {options.split}, seed {options.seed}")
    for row in rows:
        numbers = [f"{100 * value:5.1f}" for name, value in row.items() if name not in ("masks", "method")]
        print(f"| {row['masks']:<27} | {row['method']:<12} | {' | '.join(numbers)} |")


if __name__ == "__main__":
    main()
