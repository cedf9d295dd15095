"""``pc3d lift``: masks of posed images become 3D instances of a scan."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pc3d.cli.console import in_shell, print_json, results_in, seconds_line, status
from pc3d.cli.posed import Remembered, posed_frames
from pc3d.cli.prompts import parse_prompt
from pc3d.cli.segment import print_records, print_written
from pc3d.progress import track

if TYPE_CHECKING:
    from pc3d.lift import Lifter
    from pc3d.structures import Instances

EXAMPLES = """
pc3d lift scan.ply frames/ -o out --segmenter masks:masks/
pc3d lift scene0000_00_vh_clean_2.ply scene0000_00.sens -o out --segmenter masks:scene0000_00_2d-instance-filt.zip --every 10
pc3d lift scan.ply frames/ -o out --segmenter mask2former:mask2former-synth
pc3d lift scan.ply frames/ -o out --segmenter sam2:facebook/sam2.1-hiera-tiny --cache masks_cache --device cuda
pc3d lift scan.ply frames/ -o out --segmenter "sam2:facebook/sam2.1-hiera-tiny?video=1" --device cuda
pc3d lift scan.ply frames/ -o out --segmenter "sam3:facebook/sam3?text=chair,dining table" --device cuda
pc3d lift scan.ply frames/ -o out --segmenter sam2:facebook/sam2.1-hiera-tiny --click 1.20,0.45,0.80
pc3d lift scan.ply frames/ -o out --segmenter sam:facebook/sam-vit-base --point 000120:310,255 --not-point 000120:340,260
pc3d lift scan.ply frames/ -o out --segmenter "eomt:tue-mps/coco_panoptic_eomt_large_640?skip=wall,floor" --png
pc3d frames check frames/ scan.ply && pc3d lift scan.ply frames/ -o out --segmenter masks:masks/
"""


def lift(
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Scan: .ply .las .laz .npz .npy .xyz .txt, in metres.")],
    frames: Annotated[Path, typer.Argument(metavar="FRAMES", help="Folder or file of posed images.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for instances.ply, .json and .npz.")],
    *,
    segmenter: Annotated[str, typer.Option(help="masks:DIR, or MODEL:ID (a folder or hub id), MODEL one of sam, samhq, sam2, "
                                                "sam3, mask2former, maskformer, oneformer, eomt; or regions:felzenszwalb. "
                                                "Options: docs/lifting.md.")],
    method: Annotated[str, typer.Option(help="hierarchical, consensus, region, or sequential (naive).")] = "hierarchical",
    every: Annotated[int, typer.Option(min=1, help="Use every n-th frame.")] = 1,
    convention: Annotated[str, typer.Option(help="How to read poses and depth: w2c, opengl, depth=NUMBER.")] = "",
    alignment: Annotated[str, typer.Option(help="Frames to scan: auto, none, axis, or a file with a 4x4 matrix.")] = "auto",
    layout: Annotated[str, typer.Option(help="Layout of the frames: auto, or its name.")] = "auto",
    click: Annotated[list[str] | None, typer.Option(help="Only the object at x,y,z of the scan, or at a point's row "
                                                         "(may be given again).")] = None,
    point: Annotated[list[str] | None, typer.Option(help="Only the object at FRAME:u,v (may be given again).")] = None,
    box: Annotated[str | None, typer.Option(help="Only the object in FRAME:u0,v0,u1,v1.")] = None,
    not_click: Annotated[list[str] | None, typer.Option(help="A place of the scan, as --click has it, that is not of the "
                                                             "object (may be given again).")] = None,
    not_point: Annotated[list[str] | None, typer.Option(help="FRAME:u,v that is not of it (may be given again).")] = None,
    views: Annotated[int, typer.Option(min=1, help="Frames in which the object of a click is asked for.")] = 8,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Instances that score less are left out.")] = 0.05,
    device: Annotated[str, typer.Option(help="Where a 2D model runs: auto, cpu, cuda or cuda:N.")] = "auto",
    cache: Annotated[Path | None, typer.Option(help="Folder where masks of a 2D model are kept.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as json instead of a table.")] = False,
    png: Annotated[bool, typer.Option("--png", help="Draw frames, masks, scan and instances into instances.png too.")] = False,
) -> Instances:
    """Lift 2D masks of posed images onto a scan; row i of the output belongs to point i of the scan."""
    prompt = parse_prompt(click, point, box, not_click, not_point)
    with results_in(output):
        seconds: dict[str, float] = {}
        start = time.perf_counter()
        with status(f"reading {scan.name} and {frames.name}"):
            from pc3d import io, superpoints
            from pc3d import lift as room
            from pc3d.engine.device import choose_device
            from pc3d.lift.segmenters import make_segmenter

            choose_device(device)   # a wrong word is told even where no model needs one
            cloud = io.read(scan)
            prepared = cloud if cloud.superpoints is not None else superpoints.compute_superpoints(cloud)
            chosen, skipped = posed_frames(frames, cloud, scan, layout=layout, convention=convention, alignment=alignment,
                                           every=every)
            model = make_segmenter(segmenter, device, cache)
            source = Remembered(model, chosen if png else [])
        seconds["reading"] = time.perf_counter() - start
        start = time.perf_counter()
        if prompt is None:
            instances, lifter = room.lift(prepared, track(chosen, "lifting frames"), source, method=method)
            instances = instances[instances.scores >= min_score]
        else:
            instances, lifter = room.lift_prompt(prepared, chosen, model, prompt, views=views)
        seconds["lifting"] = time.perf_counter() - start
        io.write_result(output, cloud, instances)
        if png:
            source.draw(output / "instances.png", cloud, instances, lifter)
    lifter.skipped.update(skipped)
    records = instances.to_records(cloud.world_xyz)
    if as_json:
        votes = lifter.votes()
        print_json({"scan": scan, "num_points": len(cloud), "frames": votes.num_frames, "frames_without_masks": votes.num_empty,
                    "skipped": lifter.skipped, "method": method, "seconds": seconds, "output": output, "instances": records})
    else:
        print_summary(scan, lifter, num_points=len(cloud))
        print_records(output, records)
        if not records:
            print("  Nothing was found. A lower --min-score shows what few images agree on; whether poses and depth fit the"
                  f" scan says: pc3d frames check {in_shell(frames)} {in_shell(scan)}")
        print(seconds_line(seconds))
        print_written(output, png=png)
    return instances


def print_summary(scan: Path, lifter: Lifter, *, num_points: int) -> None:
    """Say what was counted, and what was left out and why."""
    from pc3d.io.frames import count_reasons

    votes = lifter.votes()
    print(f"{scan}: {num_points:,} points; {votes.num_frames} frames, {votes.num_masks:,} masks"
          + (f"; {votes.num_empty} frames without masks" if votes.num_empty else ""))
    if lifter.skipped:
        print(f"  left out: {count_reasons(lifter.skipped)}")
