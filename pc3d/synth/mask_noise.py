"""True masks broken the way 2D models break them: cut, merged, missing, shifted, invented, and called by other names.

What each kind of fault does to lifting is different, so each has its own share; the defaults are a guess at a good open
model on cluttered rooms, and were not fitted to any model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pc3d.lift.masks import FrameMasks


@dataclass(frozen=True)
class MaskNoise:
    """Shares of masks per frame, and lengths as shares of the image width."""

    split: float = 0.25     # cut in two by a line through the middle (over-segmented)
    merge: float = 0.12     # joined with a mask that touches it (under-segmented)
    drop: float = 0.15      # missing
    shift: float = 0.012    # how far borders wander: smooth displacement, standard deviation
    invent: float = 0.15    # extra masks on what has none: walls, floor, clutter
    flicker: float = 0.2    # labels drawn anew from all classes
    min_pixels: int = 30    # what is left smaller disappears
    score: float = 0.08     # standard deviation of the model's doubt, beside 0.15 less for each fault

    @classmethod
    def none(cls) -> MaskNoise:
        """The truth."""
        return cls(0, 0, 0, 0, 0, 0, 1, 0)


def noisy_masks(instances: NDArray[np.int64], labels: NDArray[np.int64], classes: tuple[str, ...], noise: MaskNoise,
                rng: np.random.Generator) -> FrameMasks:
    """Masks of one image from the truth of its pixels (H, W), -1 for none, with the faults of ``noise``.

    Scores fall with every fault of a mask, as a model's own doubts would, but with much noise of their own.
    """
    number, label_of = _numbered(instances, labels)
    number = _displaced(number, noise.shift * instances.shape[1], rng)
    faults = np.zeros(len(label_of))
    number, label_of, faults = _merge(number, label_of, faults, noise.merge, rng)
    number, label_of, faults = _split(number, label_of, faults, noise.split, rng)
    number, label_of, faults = _invent(number, label_of, faults, noise.invent, len(classes), rng)
    areas = np.bincount(number.reshape(-1) + 1, minlength=len(label_of) + 1)[1:]
    kept = (areas >= noise.min_pixels) & (rng.random(len(label_of)) >= noise.drop)
    flicker = rng.random(len(label_of)) < noise.flicker
    label_of = np.where(flicker, rng.integers(0, len(classes), len(label_of)), label_of)
    scores = np.clip(0.9 - 0.15 * faults + noise.score * rng.normal(size=len(label_of)), 0.05, 1)
    new = np.append(np.where(kept, np.cumsum(kept), 0), 0)
    return FrameMasks(new[number][None].astype(np.uint16), scores[kept].astype(np.float32), label_of[kept], classes)


def _numbered(instances: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Instances numbered 0, 1, ... in this image (-1 none), and the class of each."""
    ids, first, inverse = np.unique(instances, return_index=True, return_inverse=True)
    start = int((ids < 0).sum())
    return inverse.reshape(instances.shape) - start, labels.reshape(-1)[first][start:]


def _displaced(number: NDArray[np.int64], pixels: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Each pixel takes what lies a smoothly varying step away."""
    if pixels <= 0:
        return number
    height, width = number.shape
    v, u = np.mgrid[:height, :width]
    row, column = (np.rint(base + _smooth(height, width, pixels, rng)).astype(int) for base in (v, u))
    return number[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]


def _smooth(height: int, width: int, deviation: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise (H, W) that changes over about a tenth of the width."""
    grid = rng.normal(0, deviation, (12, 12))
    y, x = np.linspace(0, 11, height), np.linspace(0, 11, width)
    rows = np.stack([np.interp(y, np.arange(12), column) for column in grid.T], axis=1)
    return np.stack([np.interp(x, np.arange(12), row) for row in rows])


def _merge(number: NDArray[np.int64], label_of: NDArray[np.int64], faults: NDArray[np.float64], share: float,
           rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Join masks with one that touches them; the class of the larger stays."""
    pairs = np.concatenate([np.stack([number[:, 1:], number[:, :-1]], -1).reshape(-1, 2),
                            np.stack([number[1:], number[:-1]], -1).reshape(-1, 2)])
    pairs = np.unique(np.sort(pairs[(pairs >= 0).all(axis=1) & (pairs[:, 0] != pairs[:, 1])], axis=1), axis=0)
    areas = np.bincount(number.reshape(-1) + 1, minlength=len(label_of) + 1)[1:]
    into = np.arange(len(label_of))
    for one in np.flatnonzero(rng.random(len(label_of)) < share):
        partners = pairs[(pairs == one).any(axis=1)]
        if len(partners):
            other = int(partners[rng.integers(len(partners))].sum() - one)
            keep, gone = (one, other) if areas[one] >= areas[other] else (other, one)
            into[into == into[gone]] = into[keep]
            faults[into[keep]] += 1
    return np.append(into, -1)[number], label_of, faults


def _split(number: NDArray[np.int64], label_of: NDArray[np.int64], faults: NDArray[np.float64], share: float,
           rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Cut masks by a line through their middle."""
    number, labels, fault_list = number.copy(), label_of.tolist(), faults.tolist()
    for one in np.flatnonzero(rng.random(len(label_of)) < share):
        v, u = np.nonzero(number == one)
        if len(v):
            angle = rng.uniform(0, np.pi)
            side = (v - np.median(v)) * np.cos(angle) + (u - np.median(u)) * np.sin(angle) > 0
            number[v[side], u[side]] = len(labels)
            labels.append(labels[one])
            fault_list[one] += 1
            fault_list.append(fault_list[one])
    return number, np.array(labels, np.int64), np.array(fault_list)


def _invent(number: NDArray[np.int64], label_of: NDArray[np.int64], faults: NDArray[np.float64], share: float,
            num_classes: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Add round masks on what has none, ``share`` as many as there are true ones."""
    number = number.copy()
    height, width = number.shape
    v, u = np.mgrid[:height, :width]
    count = rng.binomial(max(len(label_of), 1), share)
    for extra in range(count):
        radius = rng.uniform(0.05, 0.15) * width
        disc = (v - rng.uniform(0, height)) ** 2 + (u - rng.uniform(0, width)) ** 2 < radius**2
        number[disc & (number < 0)] = len(label_of) + extra
    return (number, np.concatenate([label_of, rng.integers(0, num_classes, count)]),
            np.concatenate([faults, np.full(count, 2.0)]))
