"""``pc3d eval``: instance AP of a checkpoint."""

from __future__ import annotations

import os
import sys
from enum import Enum
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import first_process, output_folder, print_json
from pc3d.cli.prepare import prepare_raw, tell_faults
from pc3d.errors import ConfigError, explain

if TYPE_CHECKING:
    from pc3d.engine.evaluate import Keep
    from pc3d.metrics import InstanceAPResult

EXAMPLES = """
pc3d eval configs/relation3d_synth.yaml relation3d-synth
pc3d eval runs/mine/config.yaml runs/mine/best.safetensors --json
pc3d eval configs/relation3d_s3dis.yaml best.safetensors data.root=data/area5
pc3d eval configs/relation3d_synth.yaml relation3d-synth data.root=data/other data.val_split=test
pc3d eval configs/relation3d_scannetv2.yaml best.safetensors data.val_split=test --submission out/test
torchrun --nproc-per-node 4 tools/test.py configs/relation3d_scannetv2.yaml runs/relation3d_scannetv2/best.safetensors
pc3d eval configs/relation3d_scannetv2.yaml best.safetensors --raw scannetv2 /downloads/scannet data.root=data/scannetv2
"""


class Protocol(str, Enum):
    """What is computed: the ScanNet benchmark's AP, or that and S3DIS's precision, recall and coverage."""

    scannet = "scannet"
    s3dis = "s3dis"


def evaluate(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Config: data.root and data.val_split are evaluated on.")],
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Name of a packaged network, or a file.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="e.g. data.root=data/synth")] = None,
    *,
    raw: Annotated[tuple[str, Path] | None, typer.Option(metavar="DATASET RAW", help="First prepare data.val_split of this "
                                                         "download into data.root.")] = None,
    save_predictions: Annotated[Path | None, typer.Option(metavar="DIR", help="Write what was found in each scan to "
                                                          "DIR/<scan>.npz, of several splits to DIR/<split>.")] = None,
    submission: Annotated[Path | None, typer.Option(metavar="DIR", help="Write what was found in the format of ScanNet and "
                                                    "ScanNet++; the split may be without labels.")] = None,
    protocol: Annotated[Protocol | None, typer.Option(help="scannet (AP) or s3dis (AP, precision and recall at IoU 0.5, "
                                                      "coverage). Default: by the classes of the data set.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as json.")] = False,
) -> InstanceAPResult:
    """Compute AP, AP50 and AP25 per class by the ScanNet protocol; on S3DIS also mPrec, mRec, mCov and mWCov."""
    from pc3d import engine
    from pc3d.config import load_config

    experiment = load_config(config, overrides or [])
    report = None
    root = Path(experiment.data.root)
    if raw is not None:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError(explain("torchrun cannot prepare", where="--raw", do="Run pc3d prepare first."))
        from pc3d.data.recipes import earlier_choices
        from pc3d.models.registry import find_weights

        if "{split}" not in checkpoint:
            find_weights(checkpoint)    # a wrong name is told before a long preparation, not after it
        splits = tuple(name.strip() for name in experiment.data.val_split.split(","))
        report = prepare_raw(*raw, root, earlier_choices(root, raw[0], splits), workers=max(1, experiment.data.workers))
    keep = _keep(root, save_predictions, submission, several="," in experiment.data.val_split)
    result = engine.evaluate(experiment, checkpoint, device=device, keep=keep, protocol=protocol and protocol.value)
    if not first_process():
        return result
    print_scores(result, as_json=as_json)
    for folder in filter(None, (save_predictions, submission)):
        print(f"wrote {folder}", file=sys.stderr)
    if report is not None:
        tell_faults(report)
    return result


def print_scores(result: InstanceAPResult, *, as_json: bool) -> None:
    """Print AP of every class and the means, those of ScanNet200's groups too; or that there was nothing to score."""
    from pc3d.data.benchmarks import class_groups
    from pc3d.metrics.report import text_table

    groups = result.group_means(class_groups(tuple(result.per_class)))
    if as_json:
        means = {f"{name}_{group}": None if isnan(value) else value
                 for group, values in groups.items() for name, value in zip(("ap", "ap50", "ap25"), values)}
        print_json(result.to_dict() | means)
    else:
        print(result.table())
        if groups and not isnan(result.ap):
            print("\n" + text_table(("AP", "AP50", "AP25"), groups.items(), (result.ap, result.ap50, result.ap25)))


def _keep(root: Path, predictions: Path | None, submission: Path | None, *, several: bool) -> Keep | None:
    """What to write of each scan; folders and classes are looked at before anything is computed.

    Of ``several`` splits each gets a folder of its own: rooms of different areas of S3DIS have the same names.
    """
    from pc3d.data.benchmarks import ids_of_classes
    from pc3d.data.scans import read_classes
    from pc3d.io import write_instances
    from pc3d.io.submission import write_submission
    from pc3d.structures import Instances

    ids = ids_of_classes(read_classes(root)) if submission is not None else {}
    for folder in filter(None, (predictions, submission)):
        output_folder(folder)

    def keep(split: str, scene: str, found: Instances) -> None:
        if predictions is not None:
            folder = output_folder(predictions / split) if several else predictions
            write_instances(found, folder / f"{scene}.npz")
        if submission is not None:
            write_submission(submission, scene, found, ids)

    return keep if predictions is not None or submission is not None else None
