"""``pc3d prepare``: turn a downloaded data set into one that trains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import Counter
from pc3d.errors import ConfigError, DataError, explain

if TYPE_CHECKING:
    from pc3d.data.preparation import Recipe, Report, SceneResult

EXAMPLES = """
pc3d prepare scannetv2 /downloads/scannet data/scannetv2 --workers 8
pc3d prepare s3dis /downloads/Stanford3dDataset_v1.2 data/s3dis --split Area_5
pc3d train configs/relation3d_scannetv2.yaml data.root=data/scannetv2
"""
DATASETS = ("scannetv2", "s3dis")


def prepare(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help=" or ".join(DATASETS) + ".")],
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="The data set as it was downloaded.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the prepared scenes; a stopped run goes on there.")],
    *,
    split: Annotated[list[str] | None, typer.Option(help="Only this split or area (may be given again).")] = None,
    lists: Annotated[Path | None, typer.Option(help="Folder of scannetv2_*.txt, when they are not in RAW.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> Report:
    """Prepare a downloaded data set for training; scenes that are done are kept, faulty ones reported and passed over."""
    from pc3d.data.preparation import prepare as prepare_all

    counter = Counter("scenes")

    def show(done: int, total: int, result: SceneResult) -> None:
        if result.fault:
            print(f"{chr(10) if sys.stderr.isatty() else ''}{result.key}: {result.fault}", file=sys.stderr)
        counter(done, total)

    report = prepare_all(_recipe(dataset, raw, split or [], lists), output, workers=workers, progress=show)
    print(f"{report.made} scenes made, {report.kept} kept, {len(report.faults)} with faults; all about them in "
          f"{output / 'manifest.json'}")
    if report.faults:
        key, fault = next(iter(report.faults.items()))
        raise DataError(explain(f"{len(report.faults)} scenes have faults, {key} the first of them", got=fault,
                                do="Mend the raw files and run this again: what is done is kept."))
    return report


def _recipe(dataset: str, raw: Path, splits: list[str], lists: Path | None) -> Recipe:
    from pc3d.data.s3dis import S3DIS
    from pc3d.data.scannetv2 import ScanNetV2

    if dataset == "scannetv2":
        return ScanNetV2.open(raw, splits, lists)
    if dataset == "s3dis":
        return S3DIS.open(raw, splits)
    raise ConfigError(explain("unknown data set", got=repr(dataset), expected=f"one of {', '.join(DATASETS)}"))
