"""``pc3d segment``: find the object instances of one scan, by the network alone or with the masks of posed images."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import in_shell, print_json, results_in, seconds_line, status, table
from pc3d.cli.posed import Remembered, posed_frames
from pc3d.errors import ConfigError, explain
from pc3d.weights import DEFAULT_MODEL, MIN_SCORE

if TYPE_CHECKING:
    from pc3d.engine import Segmentation
    from pc3d.lift import Lifter

EXAMPLES = """
pc3d segment room.ply -o out
pc3d segment office.laz -o out --model runs/mine/best.safetensors
pc3d segment room.ply -o out --json | jq '.instances[].label'
pc3d segment room.ply -o out --png && xdg-open out/instances.png
pc3d segment room.ply -o out --min-score 0.5 --views 1
pc3d segment storey.laz -o out --tile 8
pc3d segment room.ply -o out --frames frames/ --segmenter masks:masks/
pc3d segment room.ply -o out --frames room.sens --every 10 --segmenter sam2:facebook/sam2.1-hiera-tiny --cache masks_cache
"""

SHOWN = 30  # rows of the printed table; instances.json has them all


def segment(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Scan: .ply .las .laz .npz .npy .xyz .txt, in metres, z up.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for instances.ply, .json and .npz.")],
    *,
    model: Annotated[str, typer.Option(help="Name of a packaged network, or a .safetensors file.")] = DEFAULT_MODEL,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16; not given: what the network's config says.")] = None,
    views: Annotated[int | None, typer.Option(min=1, max=4, help="Sides to look from: 1 is fastest, 4 finds most; not given: "
                                                                 "what the network's config says.")] = None,
    tile: Annotated[float | None, typer.Option(min=0, help="Larger scans are looked at in squares of so many metres, 0: in one "
                                                           "piece; not given: what the network's config says.")] = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Instances that score less are left out.")] = MIN_SCORE,
    frames: Annotated[Path | None, typer.Option(help="Posed images whose masks refine what is found and add to it.")] = None,
    segmenter: Annotated[str | None, typer.Option(help="Where masks of the frames come from, as in pc3d lift.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Use every n-th frame.")] = 1,
    convention: Annotated[str, typer.Option(help="How to read poses and depth: w2c, opengl, depth=NUMBER.")] = "",
    alignment: Annotated[str, typer.Option(help="Frames to scan: auto, none, axis, or a file with a 4x4 matrix.")] = "auto",
    layout: Annotated[str, typer.Option(help="Layout of the frames: auto, or its name.")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="Folder where masks of a 2D model are kept.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as json instead of a table.")] = False,
    png: Annotated[bool, typer.Option("--png", help="Draw scan and instances (and images) into instances.png too.")] = False,
) -> Segmentation:
    """Find the object instances of a scan; row i of the output belongs to point i of the scan."""
    if (frames is None) != (segmenter is None):
        given = "--segmenter" if frames is None else "--frames"
        raise ConfigError(explain("--frames and --segmenter go together", got=f"only {given}",
                                  do="--segmenter says where the masks of the frames come from: masks:DIR, sam2:ID, ..."))
    with results_in(output), status(f"segmenting {scan.name}" + ("" if frames is None else f" with {frames.name}")):
        from pc3d import engine, io, viz
        from pc3d.lift.segmenters import make_segmenter

        start = time.perf_counter()
        cloud = io.read(scan)
        chosen = source = None
        skipped: dict[str, str] = {}
        if frames is not None and segmenter is not None:
            chosen, skipped = posed_frames(frames, cloud, scan, layout=layout, convention=convention, alignment=alignment,
                                           every=every)
            source = Remembered(make_segmenter(segmenter, device, cache), chosen if png else [])
        reading = time.perf_counter() - start
        found = engine.segment(cloud, output, model=model, device=device, precision=precision, views=views,
                               tile=tile, min_score=min_score, frames=chosen, masks=source)
        found.seconds["reading"] += reading
        if png and source is not None and found.lifter is not None:
            source.draw(output / "instances.png", found.cloud, found.instances, found.lifter)
        elif png:  # what was kept is drawn, whatever it scored
            viz.write_png(output / "instances.png", viz.draw_panels(found.cloud, found.instances))
    records = found.instances.to_records(found.cloud.world_xyz)
    images = {}
    if found.lifter is not None:
        found.lifter.skipped.update(skipped)
        images = {"frames": len(found.lifter.votes().frame_names), "skipped": found.lifter.skipped}
    if as_json:
        print_json({"scan": scan, "num_points": len(found.cloud), **images, "seconds": found.seconds, "output": output,
                    "min_score": min_score, "instances": records})
    else:
        print_summary(scan, output, found, records, png=png)
    return found


def print_summary(scan: Path, output: Path, found: Segmentation, records: list[dict], *, png: bool) -> None:
    """Say what was found, what the images had to do with it, how long each stage took, and what to do next."""
    print(f"{scan}: {len(found.cloud):,} points, {len(records)} instances")
    if found.lifter is not None:
        print_images(found.lifter, [record["evidence"]["source"] for record in records])
    print_records(output, records)
    if not records:
        print("  Nothing was found. The network expects metres and z up, and knows the classes in instances.json;"
              " a lower --min-score shows what it was less sure of.")
    print(seconds_line(found.seconds))
    print_written(output, png=png)


def print_written(output: Path, *, png: bool) -> None:
    """Say which files there are, and what to do next."""
    others = ".json, .npz and .png" if png else ".json and .npz"
    print(f"wrote {output}/instances.ply, {others}; look at them with: pc3d view {in_shell(output)}")


def print_images(lifter: Lifter, sources: list[str]) -> None:
    """Say how many images counted, which were left out and why, and who found how many instances."""
    from pc3d.io.frames import count_reasons

    votes = lifter.votes()
    print(f"  {votes.num_frames} frames, {votes.num_masks:,} masks; found by the network {sources.count('network')}, "
          f"by images {sources.count('images')}, by both {sources.count('both')}")
    if lifter.skipped:
        print(f"  left out: {count_reasons(lifter.skipped)}")


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
