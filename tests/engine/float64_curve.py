"""``float64_curve.py CONFIG OUT``, alone or under torchrun: loss and gradient norm of each step in float64, as json."""

import json
import os
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from pc3d.config import load_config
from pc3d.engine.distributed import processes
from pc3d.engine.run import open_data
from pc3d.structures import PointBatch


def widened(batch: PointBatch) -> PointBatch:
    """The same batch with float64 columns."""
    targets = tuple(replace(target, centers=target.centers.double()) for target in batch.targets or ())
    return replace(batch, xyz=batch.xyz.double(), features=batch.features.double(), targets=targets)


def main(config_path: str, out: str) -> None:
    loop = import_module("pc3d.engine.train")  # pc3d.engine.train is the function of that name
    build, load_batches = loop.build, loop.load_batches
    loop.build = lambda config: build(config).double()
    loop.load_batches = lambda *which: ([widened(part) for part in parts] for parts in load_batches(*which))
    with processes("cpu") as group:
        scans, _, config = open_data(load_config(config_path))
        curve = [[record["loss"], record["grad_norm"]] for record in loop.Trainer(config, scans, group).steps()]
        if group.first:
            Path(out).write_text(json.dumps(curve))
        group.wait()
    sys.stdout.flush()
    os._exit(0)  # see pc3d.cli.leave


if __name__ == "__main__":
    main(*sys.argv[1:])
