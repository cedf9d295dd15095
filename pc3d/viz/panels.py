"""Scan, truth and prediction side by side, with names and scores: one picture that says how well it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pc3d.structures import Instances, PointCloud
from pc3d.structures.palette import NEUTRAL, class_colors, distinct_colors
from pc3d.viz.canvas import INK, SOFT_INK, blank, draw_text, fill, paste
from pc3d.viz.font import fit_text, text_width
from pc3d.viz.projection import View
from pc3d.viz.raster import Surface
from pc3d.viz.render import BACKGROUND, best_view, look, own_colors, paint

ColorBy = Literal["instances", "classes"]
_SUPERSAMPLE = 2
NAMELESS = "object"     # what has no class


@dataclass(frozen=True, eq=False)
class Layer:
    """Objects of one panel: J objects, each with a class, a colour and perhaps a score."""

    title: str
    owner: NDArray[np.int64]            # (N,) object of each point, -1 for none
    names: list[str]                    # (J,)
    colors: NDArray[np.uint8]           # (J, 3)
    scores: list[float] | None = None   # (J,)

    @property
    def point_colors(self) -> NDArray[np.uint8]:
        """Colour of each point (N, 3), neutral where there is no object."""
        return np.vstack([self.colors.reshape(-1, 3), [NEUTRAL]]).astype(np.uint8)[self.owner]


def draw_panels(cloud: PointCloud, instances: Instances | None = None, *, width: int = 1500, view: View | None = None,
                color_by: ColorBy = "instances", tags: bool = True) -> NDArray[np.uint8]:
    """Draw the scan, its truth (if it has one) and the prediction (if given) side by side; returns (H, width, 3) uint8.

    A predicted object has the colour of ``instances.ply``, and a true one that of the predicted one it overlaps most.
    ``tags`` writes names on the objects. A legend lists each class with its colours, number and mean score.
    """
    layers = make_layers(cloud, instances, color_by=color_by)
    panel = width // (1 + len(layers))
    view = best_view(cloud, width=panel) if view is None else view
    surface, normals = look(cloud, view.scaled(_SUPERSAMPLE))
    size = max(8.0, panel / 48)
    head, line = round(3.4 * size), round(2.3 * size)
    rows = max((len(_legend_rows(layer, panel, size)) for layer in layers), default=0)
    image = blank(width, head + view.height + rows * line + round(1.5 * size), BACKGROUND)
    scan = paint(surface, own_colors(cloud), normals, view=view, supersample=_SUPERSAMPLE)
    paste(image, scan, 0, head)
    caption(image, "Scan", f"{len(cloud):,} points", 0, panel, size)
    for column, layer in enumerate(layers, start=1):
        left = column * panel
        paste(image, paint(surface, layer.point_colors, normals, view=view, groups=layer.owner, supersample=_SUPERSAMPLE),
              left, head)
        caption(image, layer.title, f"{len(layer.names)} object{'s' * (len(layer.names) != 1)}", left, panel, size)
        if tags and set(layer.names) != {NAMELESS}:     # a name that all of them share says nothing
            _tags(image[head:, left:left + panel], layer, surface, size)
        _legend(image, layer, left, head + view.height + line, panel, size)
    return image


def make_layers(cloud: PointCloud, instances: Instances | None, *, color_by: ColorBy = "instances") -> list[Layer]:
    """Return the layers there are, truth before prediction, in colours that agree between them.

    True objects are named by the classes of the prediction, unless masks of images gave it their own: then they are objects.
    """
    classes = instances.classes if instances is not None else ()
    truth = np.full(len(cloud), -1, dtype=np.int64)
    if cloud.instances is not None and (cloud.instances >= 0).any():
        ids, truth = np.unique(cloud.instances, return_inverse=True)
        truth = truth.reshape(-1) - int((ids < 0).sum())
        truth = np.maximum(truth, -1)
    layers = []
    found = np.full(len(cloud), -1, dtype=np.int64)
    if instances is not None:
        found, _ = instances.to_labels()
        rows = np.arange(len(instances))
        layers.append(_layer("Prediction", found, instances.labels, classes, rows, color_by, instances.scores.tolist()))
    if (truth >= 0).any():
        labels = _majority(None if instances is not None and _named_by_masks(instances) else cloud.labels, truth)
        numbers = match_colors(found, truth, len(labels), first_new=0 if instances is None else len(instances))
        layers.insert(0, _layer("Truth", truth, labels, classes, numbers, color_by, None))
    return layers


def _named_by_masks(instances: Instances) -> bool:
    """Whether the classes are those of masks that were lifted, which a scan's own labels do not number."""
    return "label_votes" in instances.evidence and "source" not in instances.evidence    # what ``fuse`` found has a source


def match_colors(known: NDArray[np.int64], owner: NDArray[np.int64], count: int, *, first_new: int) -> NDArray[np.int64]:
    """Give each of ``count`` objects the number of the known one it overlaps best (IoU over 0.25), else one from ``first_new``.

    Best overlap first, one to one; known and owner (N,) are object numbers, -1 for none, known ones below ``first_new``.
    """
    num_known = int(known.max(initial=-1)) + 1
    both = (known >= 0) & (owner >= 0)
    pairs, shared = np.unique(owner[both] * max(num_known, 1) + known[both], return_counts=True)
    row, column = pairs // max(num_known, 1), pairs % max(num_known, 1)
    sizes = np.bincount(owner[owner >= 0], minlength=count), np.bincount(known[known >= 0], minlength=num_known)
    iou = shared / (sizes[0][row] + sizes[1][column] - shared)
    number = np.full(count, -1, dtype=np.int64)
    for best in np.argsort(-iou, kind="stable"):
        if iou[best] > 0.25 and number[row[best]] < 0 and column[best] not in number:
            number[row[best]] = column[best]
    number[number < 0] = first_new + np.arange(int((number < 0).sum()))
    return number


def _layer(title: str, owner: NDArray[np.int64], labels: NDArray[np.int64], classes: tuple[str, ...],
           numbers: NDArray[np.int64], color_by: ColorBy, scores: list[float] | None) -> Layer:
    names = [classes[label] if 0 <= label < len(classes) else NAMELESS for label in labels]
    if color_by == "instances":
        colors = distinct_colors(int(numbers.max(initial=-1)) + 1)[numbers]
    else:
        colors = np.vstack([class_colors(classes), [(150, 152, 158)]])[np.where(labels < len(classes), labels, -1)]
    return Layer(title, owner, names, colors.astype(np.uint8), scores)


def _majority(labels: NDArray[np.int64] | None, owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Most frequent label of each object (J,), -1 where labels are missing."""
    count = int(owner.max(initial=-1)) + 1
    if labels is None:
        return np.full(count, -1, dtype=np.int64)
    inside = owner >= 0
    width = int(labels.max(initial=-1)) + 2
    votes = np.bincount(owner[inside] * width + np.maximum(labels[inside], -1) + 1, minlength=count * width)
    return votes.reshape(count, width).argmax(axis=1) - 1


def caption(image: NDArray[np.uint8], title: str, note: str, left: int, panel: int, size: float) -> None:
    """Write a title and a soft note beside it into the head of a panel."""
    big = 1.3 * size
    x, y = left + 1.2 * size, 2.3 * size
    draw_text(image, title, x, y, size=big, bold=True)
    x += text_width(title, big) + size
    draw_text(image, fit_text(note, 0.9 * size, left + panel - x), x, y, size=0.9 * size, color=SOFT_INK)


def _tags(window: NDArray[np.uint8], layer: Layer, surface: Surface, size: float) -> None:
    """Write the name of each object on its visible middle, large objects first, leaving out what would overlap."""
    seen = layer.owner[surface.nearest_rows]
    area = np.bincount(seen[seen >= 0], minlength=len(layer.names))
    y, x = np.divmod(surface.pixels, surface.width)
    taken: list[tuple[float, float, float]] = []
    small = 0.8 * size
    for row in np.argsort(-area, kind="stable"):
        if area[row] < (2.2 * small * _SUPERSAMPLE) ** 2:
            break
        mine = seen == row
        center = np.median(x[mine]) / _SUPERSAMPLE, np.median(y[mine]) / _SUPERSAMPLE
        half = text_width(layer.names[row], small) / 2 + small / 2
        at_x = float(np.clip(center[0], half, max(half, window.shape[1] - half)))
        at_y = float(center[1]) + small / 2
        if any(abs(at_x - x0) < half + half0 and abs(at_y - y0) < 1.5 * small for x0, y0, half0 in taken):
            continue
        taken.append((at_x, at_y, half))
        draw_text(window, layer.names[row], at_x, at_y, size=small, align="center", bold=True, color=INK, halo=(255, 255, 255))


Entry = tuple[list[tuple[int, int, int]], str, float]  # colours, text, width in pixels


def _rgb(color: NDArray[np.uint8]) -> tuple[int, int, int]:
    return int(color[0]), int(color[1]), int(color[2])


def _legend_entries(layer: Layer, panel: int, size: float) -> list[Entry]:
    entries = []
    for name in sorted(set(layer.names), key=lambda name: (-layer.names.count(name), name)):
        members = [row for row, other in enumerate(layer.names) if other == name]
        text = name if len(members) == 1 else f"{name} ×{len(members)}"
        if layer.scores is not None:
            text += f" {np.mean([layer.scores[row] for row in members]):.2f}"
        colors = list(dict.fromkeys(_rgb(layer.colors[row]) for row in members))[:6]
        text = fit_text(text, 0.9 * size, panel - 2.4 * size - len(colors) * size - 2 * size)
        entries.append((colors, text, len(colors) * 1.15 * size + 0.3 * size + text_width(text, 0.9 * size) + 1.6 * size))
    return entries


def _legend_rows(layer: Layer, panel: int, size: float) -> list[list[Entry]]:
    """Break the entries into rows no wider than a panel."""
    rows: list[list[Entry]] = []
    room = 0.0
    for entry in _legend_entries(layer, panel, size):
        if not rows or entry[2] > room:
            rows.append([])
            room = panel - 2.4 * size
        rows[-1].append(entry)
        room -= entry[2]
    return rows


def _legend(image: NDArray[np.uint8], layer: Layer, left: int, y: int, panel: int, size: float) -> None:
    for index, entries in enumerate(_legend_rows(layer, panel, size)):
        x, baseline = left + 1.2 * size, y + index * round(2.3 * size)
        for colors, text, width in entries:
            for k, color in enumerate(colors):
                fill(image, round(x + 1.15 * k * size), round(baseline - 0.95 * size), round(size), round(size), color)
            draw_text(image, text, x + (1.15 * len(colors) + 0.3) * size, baseline, size=0.9 * size)
            x += width
