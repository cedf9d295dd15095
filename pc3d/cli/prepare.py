"""``pc3d prepare``: turn a downloaded data set, or a folder of own scans, into one that trains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import Counter, in_shell
from pc3d.errors import ConfigError, DataError, explain

if TYPE_CHECKING:
    from pc3d.data.preparation import Report, SceneResult
    from pc3d.data.recipes import Choices

EXAMPLES = """
pc3d prepare scannetv2 /downloads/scannet data/scannetv2 --workers 8
pc3d prepare scannet200 /downloads/scannet data/scannet200 --workers 8
pc3d prepare scannetpp /downloads/scannetpp data/scannetpp --workers 8
pc3d prepare s3dis /downloads/Stanford3dDataset_v1.2 data/s3dis --split Area_5
pc3d prepare folder my_scans data/mine && pc3d train data/mine/config.yaml
pc3d prepare inst_nostuff spformer/data/scannetv2 data/scannetv2 --labels scannetv2
"""


def prepare(
    dataset: Annotated[str, typer.Argument(metavar="DATASET",
                                           help="scannetv2, scannet200, scannetpp, s3dis, folder or inst_nostuff.")],
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="The data set as it was downloaded.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the prepared scenes; a stopped run goes on there.")],
    *,
    split: Annotated[list[str] | None, typer.Option(help="Only this split or area (may be given again).")] = None,
    unit: Annotated[str | None, typer.Option(help="What becomes a scene: of s3dis room or area, of scannetpp chunk or scene "
                                                  "(training split).")] = None,
    superpoints: Annotated[str | None, typer.Option(help="Of meshes: exact (as ScanNet's program) or stable (faster).")] = None,
    lists: Annotated[Path | None, typer.Option(help="Folder of scannetv2_*.txt, when they are not in RAW.")] = None,
    labels: Annotated[str | None, typer.Option(help="What the numbers of inst_nostuff files mean: scannetv2, scannet200, "
                                                    "s3dis or s3dis-softgroup.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> Report:
    """Prepare a data set for training; scenes that are done are kept, faulty ones reported and passed over."""
    from pc3d.data.own_config import write_own_config
    from pc3d.data.recipes import Choices

    report = prepare_raw(dataset, raw, output, Choices(tuple(split or ()), lists, unit, labels, superpoints), workers)
    print(f"{report.made} scenes made, {report.kept} kept, {len(report.faults)} with faults; all about them in "
          f"{output / 'manifest.json'}")
    if dataset == "folder" and report.made + report.kept:
        kept = (output / "config.yaml").exists()
        config = write_own_config(output)
        print(f"{'kept' if kept else 'wrote'} {config}; train with: pc3d train {in_shell(config)}")
    tell_faults(report)
    return report


def tell_faults(report: Report) -> None:
    """Raise DataError when scenes have faults: the exit code says so."""
    if report.faults:
        key, fault = next(iter(report.faults.items()))
        raise DataError(explain(f"{len(report.faults)} scenes have faults, {key} the first of them",
                                got=fault.removesuffix("."), do="Mend the raw files and run this again: what is done is kept."))


def prepare_raw(dataset: str, raw: Path, output: Path, choices: Choices, workers: int) -> Report:
    """Prepare scene after scene, with a progress bar; the faults of each are printed as they are found."""
    from pc3d.data.preparation import prepare as prepare_all
    from pc3d.data.recipes import open_recipe

    if raw.resolve() == output.resolve():
        raise ConfigError(explain("the output folder is that of the raw files", where=output, expected="a folder of its own"))
    counter = Counter("scenes")

    def show(done: int, total: int, result: SceneResult) -> None:
        if result.fault:
            print(f"{chr(10) if sys.stderr.isatty() else ''}{result.key}: {result.fault}", file=sys.stderr)
        counter(done, total)

    report = prepare_all(open_recipe(dataset, raw, choices), output, chosen=choices.splits, workers=workers, progress=show)
    for remark in report.remarks:
        print(remark, file=sys.stderr)
    if report.gone:
        names = ", ".join(report.gone[:5]) + (", ..." if len(report.gone) > 5 else "")
        print(f"{len(report.gone)} prepared scenes have no raw files in {raw}, and stay: {names}. Delete their folders in "
              f"{output} if they shall not be used.", file=sys.stderr)
    if report.notes:
        key, notes = next(iter(report.notes.items()))
        print(f"{len(report.notes)} scenes have notes in the manifest, such as {key}: {notes[0]}", file=sys.stderr)
    return report
