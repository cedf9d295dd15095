"""ScanNet200: the scans of ScanNetV2 with the raw labels of their objects, 198 instance classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from pc3d.data.lists import DATASETS, read_table
from pc3d.data.preparation import Source
from pc3d.data.scannet_groups import check_names, group_of_vertices, read_groups, read_segments
from pc3d.data.scannetv2 import ScanNetV2
from pc3d.structures import PointCloud

CLASSES = DATASETS / "scannet200" / "classes.tsv"


@cache
def class_ids() -> dict[str, int]:
    """The 198 instance classes in the order of the benchmark (wall and floor are none) -> raw label id."""
    table = read_table(CLASSES, ("label", "name", "id"))
    return {row["name"]: int(row["id"]) for row in table if row["label"] != "-1"}


@dataclass(frozen=True)
class ScanNet200(ScanNetV2):
    """Reads a ScanNetV2 download; labels are 0..197, -1 for walls, floors and objects of other categories.

    Category and instance of a vertex are those of its group in ``<scene>.aggregation.json``, as in the benchmark's own
    preparation: ``.labels.ply`` knows the 40 classes of NYU only.
    """

    dataset: ClassVar[str] = "scannet200"
    id_column: ClassVar[str] = "id"

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """The 198 class names."""
        return tuple(class_ids())

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides the result besides the files."""
        return {"labels": "raw label ids to 198 classes, by group", "instances": "aggregation groups"}

    @staticmethod
    def annotation() -> tuple[str, ...]:
        """What the names of the annotation files of a scene end with."""
        return "_vh_clean_2.0.010000.segs.json", ".aggregation.json"

    def annotate(self, mesh: PointCloud, source: Source) -> tuple[PointCloud, list[str]]:
        """The mesh with the labels and instances of its groups, and notes."""
        _, segments_path, groups_path = source.files
        segments = read_segments(segments_path, len(mesh))
        groups, notes = read_groups(groups_path)
        check_names(groups, self.label_map, where=groups_path)
        group, odd = group_of_vertices(segments, groups, where=groups_path)
        place = {raw_id: label for label, raw_id in enumerate(class_ids().values())}
        labels = np.array([*(place.get(self.label_map.get(entry.label, 0), -1) for entry in groups), -1])[group]
        return mesh.replace(labels=labels, instances=np.where(labels >= 0, group, -1)), notes + odd
