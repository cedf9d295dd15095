"""``pc3d segment``: find the object instances of one scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import output_folder, print_json, seconds_line, status, table
from pc3d.weights import DEFAULT_MODEL, MIN_SCORE

if TYPE_CHECKING:
    from pc3d.engine import Segmentation

EXAMPLES = """
pc3d segment room.ply -o out
pc3d segment office.laz -o out --model runs/mine/best.safetensors
pc3d segment room.ply -o out --json | jq '.instances[].label'
pc3d segment room.ply -o out --png && xdg-open out/instances.png
pc3d segment room.ply -o out --min-score 0.5
"""

SHOWN = 30  # rows of the printed table; instances.json has them all


def segment(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Scan: .ply .las .laz .npz .npy .xyz .txt, in metres, z up.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for instances.ply, .json and .npz.")],
    *,
    model: Annotated[str, typer.Option(help="Name of a packaged network, or a .safetensors file.")] = DEFAULT_MODEL,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16; not given: what the network's config says.")] = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Instances that score less are left out.")] = MIN_SCORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as json instead of a table.")] = False,
    png: Annotated[bool, typer.Option("--png", help="Draw scan and instances into instances.png too.")] = False,
) -> Segmentation:
    """Find the object instances of a scan; row i of the output belongs to point i of the scan."""
    output_folder(output)
    with status(f"segmenting {scan.name}"):
        from pc3d import engine, viz

        found = engine.segment(scan, output, model=model, device=device, precision=precision, min_score=min_score)
        if png:  # what was kept is drawn, whatever it scored
            viz.write_png(output / "instances.png", viz.draw_panels(found.cloud, found.instances))
    records = found.instances.to_records(found.cloud.world_xyz)
    if as_json:
        print_json({"scan": scan, "num_points": len(found.cloud), "seconds": found.seconds, "output": output,
                    "min_score": min_score, "instances": records})
    else:
        print_summary(scan, output, records, found.seconds, num_points=len(found.cloud))
    return found


def print_summary(scan: Path, output: Path, records: list[dict], seconds: dict[str, float], *, num_points: int) -> None:
    """Say what was found, how long each stage took, and what to do next."""
    print(f"{scan}: {num_points:,} points, {len(records)} instances")
    print_records(output, records)
    if not records:
        print("  Nothing was found. The network expects metres and z up, and knows the classes in instances.json;"
              " a lower --min-score shows what it was less sure of.")
    print(seconds_line(seconds))
    print(f"wrote {output}/instances.ply, .json and .npz; look at them with: pc3d view {output}")


def print_records(output: Path, records: list[dict]) -> None:
    """Print the best instances as a table."""
    if records:
        best = sorted(records, key=lambda record: -record["score"])[:SHOWN]
        rows = [[str(r["id"]), r["label"], f"{r['score']:.2f}", f"{r['num_points']:,}", _size(r["box"])] for r in best]
        print(table(["id", "label", "score", "points", "size (m)"], rows))
        if len(records) > SHOWN:
            print(f"  ... and {len(records) - SHOWN} more in {output / 'instances.json'}")


def _size(box: dict | None) -> str:
    if box is None:
        return "-"
    return " x ".join(f"{high - low:.2f}" for low, high in zip(box["min"], box["max"]))
