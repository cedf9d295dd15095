"""``pc3d convert``: a released Relation3D checkpoint to a pc3d model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pc3d.cli.console import output_file
from pc3d.errors import ConfigError, explain

EXAMPLES = """
pc3d convert relation3d_scannetv2.pth -o relation3d_scannetv2.safetensors --config configs/relation3d_scannetv2.yaml
pc3d convert mine.pth -o mine.safetensors --classes chair,table,sofa
"""


def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Released checkpoint (.pth); no code in it is run.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model to write (.safetensors, with a .json beside it).")],
    *,
    classes: Annotated[str, typer.Option(help="Class names in the order of the checkpoint, separated by commas.")] = "",
    config: Annotated[Path | None, typer.Option(help="Config whose model.classes name the classes.")] = None,
) -> Path:
    """Convert released Relation3D weights; the result segments with the paper's settings."""
    output_file(output, (".safetensors",))
    names = tuple(name.strip() for name in classes.split(",") if name.strip())
    if not names and config is not None:
        from pc3d.config import load_config

        names = load_config(config).model.classes
    if not names:
        raise ConfigError(explain("the class names are needed: a checkpoint holds only their number", where=checkpoint,
                                  do="Give --classes chair,table,... or a --config with model.classes."))
    from pc3d.models import convert_checkpoint

    report = convert_checkpoint(checkpoint, output, names)
    print(f"wrote {output}: {len(report.converted)} tensors, {len(report.ignored)} unused ones left out")
    return output
