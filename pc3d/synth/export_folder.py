"""A synthetic room as a plain folder of posed RGB-D frames beside its scan, with the true masks of every frame."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pc3d import io
from pc3d.errors import require_package
from pc3d.structures import PointCloud
from pc3d.synth.classes import SCANNET_CLASSES
from pc3d.synth.raw import appearing_folder, write_lines
from pc3d.synth.scanner import View


def export_folder(cloud: PointCloud, views: Sequence[View], folder: Path) -> None:
    """Write ``scan.ply`` (with labels and instances), ``frames/`` and ``masks/`` (label maps, as ``masks:`` reads them)."""
    require_package("PIL", extra="viz", purpose="writing images")
    from PIL import Image

    with appearing_folder(folder) as target:
        io.write(cloud, target / "scan.ply")
        frames, masks = target / "frames", target / "masks"
        for place in (frames / "color", frames / "depth", masks):
            place.mkdir(parents=True)
        camera = views[0].frame.camera
        write_lines(frames / "K.txt", [" ".join(map(repr, row)) for row in camera.matrix.tolist()])
        write_lines(frames / "poses.txt", [" ".join(map(repr, view.frame.T_world_camera.ravel().tolist())) for view in views])
        for index, view in enumerate(views):
            name = f"{index:04d}"
            Image.fromarray(view.frame.rgb).save(frames / "color" / f"{name}.png")
            Image.fromarray(np.rint(view.frame.depth * 1000).astype(np.uint16)).save(frames / "depth" / f"{name}.png")
            Image.fromarray((view.instances + 1).astype(np.uint16)).save(masks / f"{name}.png")
            (masks / f"{name}.json").write_text(json.dumps(objects_of(view)))


def objects_of(view: View) -> list[dict[str, object]]:
    """Number in the label map, and class, of every object that a view shows."""
    ids, first = np.unique(view.instances, return_index=True)
    return [{"id": int(one) + 1, "label": SCANNET_CLASSES[view.labels.flat[pixel]]}
            for one, pixel in zip(ids, first) if one >= 0]
