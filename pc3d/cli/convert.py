"""``pc3d convert``: released checkpoints to pc3d models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import result_in

if TYPE_CHECKING:
    from pc3d.models.convert import ConversionReport

EXAMPLES = """
pc3d convert relation3d_scannetv2.pth -o relation3d_scannetv2.safetensors --config configs/relation3d_scannetv2.yaml
pc3d convert mine.pth -o mine.safetensors --classes chair,table,sofa
pc3d convert sstnet_pretrain.pth -o start.safetensors --config configs/relation3d_scannetv2.yaml
pc3d train configs/relation3d_scannetv2.yaml train.init=start.safetensors
"""


def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Released checkpoint (.pth); no code in it is run.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Model to write (.safetensors, with a .json beside it).")],
    *,
    classes: Annotated[str, typer.Option(help="Class names in the order of the checkpoint, separated by commas.")] = "",
    config: Annotated[Path | None, typer.Option(help="Config whose model takes the weights, as far as they fit.")] = None,
) -> ConversionReport:
    """Convert weights of Relation3D, MAFT, SPFormer or an SSTNet backbone, and tell the fate of each tensor; a whole
    Relation3D segments with the paper's settings, of the others the parts that fit are there to train from."""
    with result_in(output, (".safetensors",)):
        from pc3d.config import load_config
        from pc3d.models import convert_checkpoint

        model = None if config is None else load_config(config).model
        names = tuple(name.strip() for name in classes.split(",") if name.strip()) or (model.classes if model else ())
        model = None if model is None else model.model_copy(update={"classes": names})
        report = convert_checkpoint(checkpoint, output, names, model)
    print("\n".join(report.lines()))
    print(f"wrote {output}")
    return report
