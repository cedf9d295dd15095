"""``pc3d demo``: the whole way, on a room that ships with pc3d."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pc3d.cli.console import print_json, results_in, seconds_line, status
from pc3d.errors import install_command
from pc3d.weights import DEFAULT_MODEL, MIN_SCORE

if TYPE_CHECKING:
    from pc3d.engine import Segmentation
    from pc3d.metrics import InstanceAPResult
    from pc3d.structures import PointCloud

EXAMPLES = """
pc3d demo
pc3d demo -o /tmp/demo
pc3d demo --json
"""

ROOM = Path(__file__).resolve().parent.parent / "data" / "demo_room.ply"
FRAMES = "demo_frames.npz"  # beside it


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("demo"),
    *,
    model: Annotated[str, typer.Option(help="Name of a packaged network, or a .safetensors file.")] = DEFAULT_MODEL,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Hide what scores less; AP sees all.")] = MIN_SCORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print AP and seconds as json.")] = False,
) -> InstanceAPResult:
    """Segment a synthetic room that the network never saw, score it against its truth, and draw both; then with images too."""
    with results_in(output):
        seconds: dict[str, float] = {}
        start = time.perf_counter()
        with status("loading the network"):
            from pc3d import io
            from pc3d.engine import Segmenter, confident

            segmenter = Segmenter.from_pretrained(model, device)
        seconds["loading"] = time.perf_counter() - start
        start = time.perf_counter()
        room = io.read(ROOM).replace(superpoints=None)  # so that the demo shows every stage
        seconds["reading"] = time.perf_counter() - start
        with status(f"segmenting {len(room):,} points on {segmenter.device}"):
            found = segmenter(room)
        result = score(room, found)  # on every instance, as average precision asks
        aided = None
        with status("drawing"):
            start = time.perf_counter()
            if ROOM.with_name(FRAMES).exists():
                aided = add_images(output, room, found, min_score)
            found = replace(found, instances=confident(found.instances, min_score))
            write(output, room, found, result, aided)
        seconds |= {**found.seconds, "images and drawing": time.perf_counter() - start}
    if as_json:
        print_json({**to_dict(result, aided), "num_points": len(room), "seconds": seconds, "output": output})
    else:
        print_story(output, room, found, result, aided, seconds)
    return result


def add_images(output: Path, room: PointCloud, found: Segmentation, min_score: float) -> InstanceAPResult:
    """Let the masks of a few images speak, draw frames, masks and what came of them, and score that against the truth."""
    from pc3d import engine, viz
    from pc3d.synth.demo import read_demo_frames

    frames, masks = read_demo_frames(ROOM.with_name(FRAMES))
    aided = engine.add_images(found, frames, masks)
    shots = {frame.name: (frame.rgb, masks(frame)) for frame in frames}
    shown = engine.confident(aided.instances, min_score)
    assert aided.lifter is not None
    viz.write_png(output / "lifting.png", viz.draw_lifting(room, shown, aided.lifter.votes(), shots))
    return score(room, aided)


def to_dict(result: InstanceAPResult, aided: InstanceAPResult | None) -> dict[str, Any]:
    """AP of the network, and with images, json-ready."""
    return {**result.to_dict(), **({} if aided is None else {"with_images": aided.to_dict()})}


def score(room: PointCloud, found: Segmentation) -> InstanceAPResult:
    """AP of what was found against the room's truth, of the classes that are in the room."""
    from pc3d.errors import DataError, explain
    from pc3d.metrics import InstanceAP

    if room.labels is None or room.instances is None:
        raise DataError(explain("the room of the demo has no truth", where=ROOM, got=repr(room)))
    metric = InstanceAP(found.instances.classes)
    metric.add(room.labels, room.instances, found.instances)
    result = metric.result()
    return replace(result, per_class={name: values for name, values in result.per_class.items() if not isnan(values[2])})


def write(output: Path, room: PointCloud, found: Segmentation, result: InstanceAPResult,
          aided: InstanceAPResult | None) -> None:
    """Write scan, instances, numbers and picture into the demo's folder."""
    from pc3d import io, viz

    io.write_result(output, room, found.instances)
    io.write(room, output / "scan.ply")
    (output / "ap.json").write_text(json.dumps(to_dict(result, aided), indent=2) + "\n")
    viz.write_png(output / "demo.png", viz.draw_panels(room, found.instances))


def print_story(output: Path, room: PointCloud, found: Segmentation, result: InstanceAPResult,
                aided: InstanceAPResult | None, seconds: dict[str, float]) -> None:
    """Say what happened and what to do next."""
    command = own_command()
    images = lifting = ""
    if aided is not None:
        images = (f"With true masks of a few images, broken as a 2D model would break them: AP {100 * aided.ap:.1f}, "
                  f"AP50 {100 * aided.ap50:.1f}, AP25 {100 * aided.ap25:.1f}.\n\n")
        lifting = f"\n      {output}/lifting.png    images, their masks, and what they and the network found together"
    print(f"""A synthetic room of {len(room):,} points that the network never saw: {len(found.instances)} instances found.

{result.table()}

{images}{seconds_line(seconds)}
wrote {output}/demo.png       scan, truth and prediction side by side{lifting}
      {output}/instances.ply  the scan with instance and label columns; also .json and .npz
      {output}/scan.ply       the scan

Now your own scan (metres, z up; .ply .las .laz .npz .xyz):
  {command} segment YOUR_SCAN.ply -o out --png
  {command} view out       (a window; it needs Open3D: {install_command("viz")})
  {command} --help         every verb, with examples""")


def own_command() -> str:
    """How this pc3d is called from a shell here: by name when the shell finds it, else by its path."""
    beside = Path(sys.executable).with_name("pc3d")
    found = shutil.which("pc3d")
    if found is not None and (not beside.exists() or Path(found).resolve() == beside.resolve()):
        return "pc3d"
    if not beside.exists():
        return f"{sys.executable} -m pc3d"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)
