"""``pc3d synth``: make a data set of scanned synthetic rooms."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import Counter, print_json, table
from pc3d.errors import FileError, explain

if TYPE_CHECKING:
    from pc3d.structures import PointCloud

EXAMPLES = """
pc3d synth data/synth --rooms 200 --split train --workers 2
pc3d synth data/synth --rooms 20 --split val --seed 1000
pc3d synth data/rich --rooms 200 --models auto
pc3d synth data/synth --stats
pc3d train configs/relation3d_synth.yaml data.root=data/synth
pc3d synth raw/scannet --rooms 4 --layout scannet && pc3d prepare scannetv2 raw/scannet data/scannetv2
"""


def synth(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Data set folder.")],
    *,
    rooms: Annotated[int, typer.Option(min=1, help="How many rooms.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Rooms are SEED, SEED + 1, ...: the same seed makes the same room.")] = 0,
    split: Annotated[str, typer.Option(help="train, val or test; the last two also hold furniture that train never "
                                            "shows.")] = "train",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    models: Annotated[
        str, typer.Option(help="Real furniture models besides the parametric ones: auto (where Debian's "
                               "sweethome3d-furniture is installed), none, or a folder of .sh3f catalogues.")] = "none",
    layout: Annotated[str, typer.Option(help="scans (*.ply), frames (posed RGB-D folders, masks, scan), raw: scannet, "
                                            "scannet-frames, scannetpp, s3dis, or as others prepare ScanNetV2: pointcept, "
                                            "inst_nostuff.")] = "scans",
    stats: Annotated[bool, typer.Option("--stats", help="Make nothing; measure the scans of OUTPUT/SPLIT (points per m², "
                                                        "neighbours of a voxel, superpoints, objects by class).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --stats: print json.")] = False,
) -> list[Path]:
    """Make furnished rooms and scan each with a virtual RGB-D camera; rooms that are already there are kept."""
    if stats or as_json:
        return _print_statistics(output, split, as_json)
    from pc3d.synth import write_dataset
    from pc3d.synth.models import FOLDER, INSTALL

    folder = {"none": None, "auto": FOLDER}.get(models, Path(models))
    if models == "auto" and not FOLDER.is_dir():
        print(f"no furniture models are installed: parametric furniture alone. {INSTALL}", file=sys.stderr)
        folder = None
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(explain("the data set folder cannot be made", where=output, got=error.strerror)) from error
    paths = write_dataset(output, rooms, seed, split=split, workers=workers, layout=layout, models=folder,
                          progress=Counter("rooms"))
    print(f"{len(paths)} rooms in {paths[0].parent if layout != 's3dis' else output}")
    return paths


def _print_statistics(root: Path, split: str, as_json: bool) -> list[Path]:
    """Measure a data set of any origin: rooms made here, or what pc3d prepare wrote."""
    from pc3d.data.scans import ScanDataset
    from pc3d.synth.statistics import measure_set

    scans, progress = ScanDataset(root, split), Counter("scans")

    def counted() -> Iterator[PointCloud]:
        for index in range(len(scans)):
            yield scans[index]
            progress(index + 1, len(scans))

    found = measure_set(counted(), scans.classes)
    if as_json:
        print_json(found.record())
        return scans.paths
    print(f"{len(scans)} scans of {root / split}")
    quantities = [(name, *(f"{value:,.1f}" for value in row)) for name, *row in found.rows()]
    classes = [(name, f"{total}", f"{mean:.2f}", f"{shown}", f"{size:,}")
               for name, total, mean, shown, size in found.class_rows()]
    print(table(("a scan", "mean", "least", "most"), quantities))
    print("\n" + table(("class", "objects", "per scan", "scans", "median vertices"), classes))
    return scans.paths
