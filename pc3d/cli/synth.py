"""``pc3d synth``: make a data set of scanned synthetic rooms."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pc3d.cli.console import Counter
from pc3d.errors import FileError, explain

EXAMPLES = """
pc3d synth data/synth --rooms 200 --split train --workers 2
pc3d synth data/synth --rooms 20 --split val --seed 1000
pc3d synth data/rich --rooms 200 --models auto
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
    layout: Annotated[str, typer.Option(help="scans (*.ply), raw: scannet, scannet-frames, scannetpp, s3dis, or as others "
                                            "prepare ScanNetV2: pointcept, inst_nostuff.")] = "scans",
) -> list[Path]:
    """Make furnished rooms and scan each with a virtual RGB-D camera; rooms that are already there are kept."""
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
