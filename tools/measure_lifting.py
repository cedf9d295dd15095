"""AP of lifting on synthetic rooms: true masks, masks broken by the noise model, and no depth; every way to associate them.

The table of docs/lifting.md: ``python tools/measure_lifting.py``. Class-agnostic AP by the protocol "objects"; "bound" is what
the scan's superpoints allow, each given to the object that most of its points belong to. With ``--segmenter``, words as for
``pc3d lift``, the masks are those of a 2D model instead.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from pc3d.lift import FrameMasks, Lifter
from pc3d.lift.methods import GROUPERS
from pc3d.lift.segmenters import make_segmenter
from pc3d.metrics import ClassAgnosticAP, InstanceAP
from pc3d.structures import Instances, PointCloud
from pc3d.synth import SCANNET_CLASSES, MaskNoise, View, make_views, noisy_masks

Masks = Callable[[View, np.random.Generator], FrameMasks]
Sources = dict[str, tuple[Masks, bool]]          # name -> (masks, with depth)


def masks_of(noise: MaskNoise) -> Masks:
    return lambda view, rng: noisy_masks(view.instances, view.labels, SCANNET_CLASSES, noise, rng)


SOURCES: Sources = {
    "true masks": (masks_of(MaskNoise.none()), True),
    "true masks, no depth": (masks_of(MaskNoise.none()), False),
    "noisy masks": (masks_of(MaskNoise()), True),
}


def bound(cloud: PointCloud) -> Instances:
    """Every object as the superpoints that it owns most of."""
    truth = np.zeros((cloud.superpoints.max() + 1, cloud.instances.max() + 2))
    np.add.at(truth, (cloud.superpoints, cloud.instances), 1)       # the last column is no object
    owner, count = truth.argmax(axis=1), truth.shape[1] - 1
    labels = np.array([cloud.labels[cloud.instances == one][0] for one in range(count)])
    return Instances.from_masks(owner[None] == np.arange(count)[:, None], labels, np.ones(count), SCANNET_CLASSES,
                                cloud.superpoints)


def masks_found(segmenter: str) -> Sources:
    found = make_segmenter(segmenter)
    return {segmenter: (lambda view, rng: found(view.frame), True)}


def lifted(cloud: PointCloud, views: list[View], source: tuple[Masks, bool], seed: int) -> Lifter:
    masks, with_depth = source
    rng, lifter = np.random.default_rng(seed), Lifter(cloud)
    for view in views:
        frame = view.frame if with_depth else replace(view.frame, read_depth=None)
        lifter.add(frame, masks(view, rng))
    return lifter


def results(sources: Sources, split: str, seed: int, rooms: int) -> Iterator[tuple[str, str, PointCloud, Instances]]:
    for room in range(seed, seed + rooms):
        cloud, views = make_views(room, split=split)
        yield "", "bound", cloud, bound(cloud)
        for source in sources:
            lifter = lifted(cloud, views, sources[source], room)
            for method in GROUPERS:
                yield source, method, cloud, lifter.instances(method)


def measure(sources: Sources, split: str, seed: int, rooms: int) -> list[dict[str, object]]:
    metrics: dict[tuple[str, str], tuple[ClassAgnosticAP, InstanceAP]] = {}
    for source, method, cloud, instances in results(sources, split, seed, rooms):
        found = metrics.setdefault((source, method), (ClassAgnosticAP(SCANNET_CLASSES, "objects"), InstanceAP(SCANNET_CLASSES)))
        for metric in found:
            metric.add(cloud.labels, cloud.instances, instances)
    rows = []
    for (source, method), (agnostic, labelled) in metrics.items():
        one, two = agnostic.result(), labelled.result()
        rows.append({"masks": source, "method": method, "ap": one.ap, "ap50": one.ap50, "ap25": one.ap25,
                     "labelled_ap": two.ap, "labelled_ap50": two.ap50, "labelled_ap25": two.ap25})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", default="val")
    parser.add_argument("--seed", type=int, default=10000)
    parser.add_argument("--rooms", type=int, default=20)
    parser.add_argument("--segmenter", help="kind:source of a 2D model")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("error", RuntimeWarning)
    sources = masks_found(options.segmenter) if options.segmenter else SOURCES
    rows = measure(sources, options.split, options.seed, options.rooms)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{options.rooms} rooms of {options.split}, seed {options.seed}")
    for row in rows:
        numbers = [f"{100 * value:5.1f}" for name, value in row.items() if name not in ("masks", "method")]
        print(f"| {row['masks']:<20} | {row['method']:<12} | {' | '.join(numbers)} |")


if __name__ == "__main__":
    main()
