"""Benchmarks: how fast pc3d is on this machine, beside what people use today.

A benchmark is a function that yields rows; every comparison first checks that both sides computed the same, then times them in
turn in one process. Data is generated, so each figure can be measured again anywhere: ``pc3d bench NAME``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pc3d.bench import asam, decoder, evaluate, inference, lift, loader, prepare, sparse_conv, steps, superpoints
from pc3d.bench.compare import Row

#: Name -> the function that yields its rows, given the number of rounds.
BENCHMARKS: dict[str, Callable[[int], Iterator[Row]]] = {
    "lift": lift.run,
    "steps": steps.run,
    "prepare": prepare.run,
    "superpoints": superpoints.run,
    "sparse_conv": sparse_conv.run,
    "asam": asam.run,
    "decoder": decoder.run,
    "loader": loader.run,
    "evaluate": evaluate.run,
    "inference": inference.run,
}
