"""``pc3d frames``: look at posed images before using them."""

from __future__ import annotations

import warnings
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pc3d.cli.console import print_json, status, table
from pc3d.errors import ConfigError, DataError, explain

if TYPE_CHECKING:
    from pc3d.io import Frames
    from pc3d.lift.conventions import CheckResult

EXAMPLES = """
pc3d frames info scene0000_00.sens
pc3d frames info frames/ --json
pc3d frames check frames/ mesh.ply
"""

SHOWN = 5


class Action(str, Enum):
    """What ``pc3d frames`` does."""

    info = "info"
    check = "check"


def frames(
    action: Annotated[Action, typer.Argument(metavar="ACTION", help="info: what is there; check: do poses and depth "
                                                                 "fit the scan?")],
    path: Annotated[Path, typer.Argument(metavar="FRAMES", help="Folder or file of posed images.")],
    scan: Annotated[Path | None, typer.Argument(metavar="SCAN", help="Scan to check against.")] = None,
    *,
    layout: Annotated[str, typer.Option(help="auto, or the name of a layout.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print json.")] = False,
) -> dict[str, Any]:
    """Look at posed images: how many, which cameras, what is missing; or which convention of poses and depth fits a scan."""
    from pc3d.io import read_frames

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)    # the summary says what was skipped
        found = read_frames(path, layout)
    if action is Action.info:
        return show_info(found, as_json)
    if scan is None:
        raise ConfigError(explain("a check needs a scan", expected="pc3d frames check FRAMES SCAN"))
    return show_check(found, scan, as_json)


def describe(found: Frames) -> dict[str, Any]:
    """What there is, as json-ready values."""
    import numpy as np

    first = found[0]
    centers = np.stack([frame.T_world_camera[:3, 3] for frame in found])
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    times = [frame.timestamp for frame in found if frame.timestamp is not None]
    return {"frames": len(found), "layout": found.layout, "skipped": found.skipped,
            "color": _camera(first.camera), "depth": _camera(first.depth_camera) if first.has_depth else None,
            "seconds": times[-1] - times[0] if len(times) > 1 else None,
            "path_m": float(steps.sum()), "box_m": [centers.min(axis=0).tolist(), centers.max(axis=0).tolist()]}


def _camera(camera: Any) -> dict[str, Any]:
    return {"width": camera.width, "height": camera.height, "fx": camera.fx, "fy": camera.fy, "cx": camera.cx, "cy": camera.cy,
            "lens": None if camera.lens is None else {"k": camera.lens.k, "p": camera.lens.p, "fisheye": camera.lens.fisheye}}


def show_info(found: Frames, as_json: bool) -> dict[str, Any]:
    """Print what there is."""
    info = describe(found)
    if as_json:
        print_json(info)
        return info
    print(f"{found.where}: {found.summary()}")
    for kind in ("color", "depth"):
        values = info[kind]
        if values is not None:
            lens = "" if values["lens"] is None else f", lens {values['lens']}"
            print(f"  {kind:<5}  {values['width']}x{values['height']}, fx {values['fx']:.2f} fy {values['fy']:.2f} "
                  f"cx {values['cx']:.2f} cy {values['cy']:.2f}{lens}")
    print("" if info["depth"] else "  depth  none: visibility will come from the scan itself\n", end="")
    size = " x ".join(f"{high - low:.1f}" for low, high in zip(*info["box_m"]))
    print(f"  path   {info['path_m']:.1f} m within {size} m")
    for name, reason in list(found.skipped.items())[:SHOWN]:
        print(f"  skipped {name}: {reason}")
    return info


def show_check(found: Frames, scan: Path, as_json: bool) -> dict[str, Any]:
    """Print how well each reading of poses and depth fits the scan, and what to change. DataError when none does."""
    with status("trying conventions"):
        from pc3d import io
        from pc3d.lift.conventions import check_conventions, find_alignments

        cloud = io.read(scan)
        result = check_conventions(found, cloud, find_alignments(cloud, scan))
    rows = [{"convention": str(fit.convention) or "as read", "alignment": fit.alignment, "share": round(fit.share, 4)}
            for fit in result.fits]
    report = {"frames": result.num_frames, "tolerance_m": result.tolerance, "fits": result.best is not None,
              "advice": result.advice(), "readings": rows}
    if as_json:
        print_json(report)
    else:
        print_check(found, result, rows)
    if result.best is None:
        got = f"at best {result.fits[0].share:.0%} of depth pixels on the scan of {cloud.size}"
        raise DataError(explain("frames and scan do not fit", where=found.where, got=got,
                                do=result.advice()[0].upper() + result.advice()[1:] + "."))
    return report


def print_check(found: Frames, result: CheckResult, rows: list[dict[str, Any]]) -> None:
    """Print the best readings as a table and the advice."""
    print(f"{found.summary()}; {result.num_frames} of them tried, {result.tolerance * 100:.0f} cm allowed")
    print(table(["convention", "alignment", "depth on the scan"],
                [[row["convention"], row["alignment"], f"{row['share']:.1%}"] for row in rows[:SHOWN]]))
    if result.best is not None:
        print(f"-> {result.advice()}")
