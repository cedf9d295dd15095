"""``pc3d submission``: check, score or zip predictions in the benchmarks' own format."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import print_json, size_of
from pc3d.cli.evaluate import print_scores

if TYPE_CHECKING:
    from pc3d.metrics import InstanceAPResult

EXAMPLES = """
pc3d eval configs/relation3d_scannetv2.yaml best.safetensors data.val_split=test --submission out/test
pc3d submission check out/test --root data/scannetv2 --split test
pc3d submission zip out/test --root data/scannetv2 --split test
pc3d submission score out/val --root data/scannetv2 --split val
"""


class Action(str, Enum):
    """What to do with a submission."""

    check = "check"
    score = "score"
    zip = "zip"


def submission(
    action: Annotated[Action, typer.Argument(metavar="ACTION", help="check, score (AP) or zip (check and pack).")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that pc3d eval --submission wrote.")],
    *,
    root: Annotated[Path, typer.Option(help="The prepared data set: ScanNetV2, ScanNet200 or ScanNet++.")],
    split: Annotated[str, typer.Option(help="Its split.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as json.")] = False,
) -> InstanceAPResult | Path | dict[str, int]:
    """Check, score or zip a folder in the format of ScanNet and ScanNet++; every mask is read and held to its mesh."""
    from pc3d.data.benchmarks import ids_of_classes
    from pc3d.data.scans import ScanDataset
    from pc3d.io.submission import check_submission, zip_submission

    scans = ScanDataset(root, split, labelled=False)
    ids = ids_of_classes(scans.classes)
    if action is Action.score:
        result = _score(folder, root, split, ids)
        print_scores(result, as_json=as_json)
        return result
    points = {scans.scene(index): len(scans[index]) for index in range(len(scans))}
    counts = check_submission(folder, ids, points)
    archive = zip_submission(folder, folder.with_name(f"{folder.name}.zip")) if action is Action.zip else None
    if as_json:
        print_json({"scenes": counts, "zip": archive})
    else:
        print(f"{len(counts)} scenes with {sum(counts.values())} instances, all as the benchmark wants them")
        if archive is not None:
            print(f"wrote {size_of(archive)}")
    return archive or counts


def _score(folder: Path, root: Path, split: str, ids: dict[str, int]) -> InstanceAPResult:
    from pc3d.data.scans import ScanDataset
    from pc3d.engine.evaluate import add_scan
    from pc3d.io.submission import read_submission
    from pc3d.metrics import InstanceAP

    scans = ScanDataset(root, split)
    metric = InstanceAP(scans.classes)
    for index in range(len(scans)):
        cloud = scans[index]
        add_scan(metric, cloud, read_submission(folder, scans.scene(index), ids, len(cloud)))
    return metric.result()
