"""The data sets that ``pc3d prepare`` knows, and what can be chosen for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pc3d.data.folder import FolderScans
from pc3d.data.nostuff import NoStuff, label_tables
from pc3d.data.preparation import MANIFEST, Recipe, read_manifest
from pc3d.data.s3dis import S3DIS
from pc3d.data.scannet200 import ScanNet200
from pc3d.data.scannetpp import ScanNetPP
from pc3d.data.scannetv2 import ScanNetV2
from pc3d.errors import ConfigError, explain
from pc3d.superpoints import SuperpointSettings


@dataclass(frozen=True)
class Choices:
    """What a user may ask for; None leaves it to the data set."""

    splits: tuple[str, ...] = ()
    lists: Path | None = None           # folder of scannetv2_*.txt
    unit: str | None = None             # what becomes a scene
    labels: str | None = None           # what the numbers of inst_nostuff files mean
    superpoints: str | None = None      # exact or stable


@dataclass(frozen=True)
class DataSet:
    """How a data set is opened, the choices it knows besides splits, and its units, the usual one first."""

    open: Callable[[Path, Choices], Recipe]
    choices: tuple[str, ...] = ("superpoints",)
    units: tuple[str, ...] = ()


DATA_SETS = {
    "scannetv2": DataSet(lambda raw, c: ScanNetV2.open(raw, c.splits, c.lists), ("superpoints", "lists")),
    "scannet200": DataSet(lambda raw, c: ScanNet200.open(raw, c.splits, c.lists), ("superpoints", "lists")),
    "scannetpp": DataSet(lambda raw, c: ScanNetPP.open(raw, c.splits, c.unit or "chunk"), ("superpoints", "unit"),
                         ("chunk", "scene")),
    "s3dis": DataSet(lambda raw, c: S3DIS.open(raw, c.splits, c.unit or "room"), ("unit",), ("room", "area")),
    "folder": DataSet(lambda raw, c: FolderScans.open(raw, c.splits)),
    "inst_nostuff": DataSet(lambda raw, c: NoStuff.open(raw, c.splits, c.labels or "scannetv2"), ("labels",)),
}
MODES = ("exact", "stable")


def open_recipe(dataset: str, raw: Path, choices: Choices = Choices()) -> Recipe:
    """Open a raw data set by name. Raises ConfigError for a choice it does not know, FileError for a wrong folder."""
    if dataset not in DATA_SETS:
        raise ConfigError(explain("unknown data set", got=repr(dataset), expected=f"one of {', '.join(DATA_SETS)}"))
    known = DATA_SETS[dataset]
    for name in ("lists", "unit", "labels", "superpoints"):
        if getattr(choices, name) is not None and name not in known.choices:
            raise ConfigError(explain(f"{dataset} has no choice of {name}", got=getattr(choices, name)))
    for got, expected in ((choices.unit, known.units), (choices.superpoints, MODES)):
        if got is not None and got not in expected:
            raise ConfigError(explain("unknown choice", got=repr(got), expected=f"one of {', '.join(expected)}"))
    recipe = known.open(raw, choices)
    return recipe if choices.superpoints is None else _with_mode(recipe, choices.superpoints)


def earlier_choices(root: Path, dataset: str, splits: tuple[str, ...]) -> Choices:
    """The choices that a data set was prepared with, so that more of it can be; the usual ones where there is none yet.

    Where the split lists were is not known. Raises FileError or FormatError for a manifest that cannot be read.
    """
    if dataset not in DATA_SETS or not (root / MANIFEST).exists():
        return Choices(splits)
    manifest = read_manifest(root)
    parameters, known = manifest.get("parameters", {}), DATA_SETS[dataset].choices
    exact = parameters.get("superpoints", {}).get("exact")
    labels = (name for name, (_, numbers) in label_tables().items() if list(numbers) == parameters.get("class_of_number"))
    return Choices(splits, unit=parameters.get("unit") if "unit" in known else None,
                   labels=next(labels, None) if "labels" in known else None,
                   superpoints=MODES[0 if exact else 1] if "superpoints" in known and exact is not None else None)


def _with_mode(recipe: Recipe, mode: str) -> Recipe:
    settings: SuperpointSettings = replace(recipe.superpoints, exact=mode == "exact")
    return replace(recipe, superpoints=settings)  # type: ignore[type-var]
