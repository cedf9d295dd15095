"""Timing a function beside a peer: same result first, then in turn, round by round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from pc3d.bench.machine import peak_flops
from pc3d.errors import DataError, explain

Own = TypeVar("Own")
Peer = TypeVar("Peer")


@dataclass(frozen=True)
class Row:
    """One line of a benchmark; times are medians over the rounds."""

    name: str
    seconds: float                          # wall time of one run
    cpu_seconds: float                      # processor time of one run, all threads
    threads: int
    peer: str | None = None
    peer_seconds: float | None = None
    peer_cpu_seconds: float | None = None
    ratio: float | None = None              # median over rounds of the peer's wall time by ours
    percent_of_peak: float | None = None    # of the machine's multiply-adds, measured in the same run
    figures: Mapping[str, float] = field(default_factory=dict)  # whatever else was measured, with its unit in the name
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without what was not measured; ``figures`` stand beside the rest."""
        values = {name: value for name, value in vars(self).items() if value not in (None, "") and name != "figures"}
        return {**values, **self.figures}


def measure(name: str, run: Callable[[], object], rounds: int, *, flop: float | None = None,
            dtype: torch.dtype = torch.float32, figures: Mapping[str, float] | None = None, note: str = "") -> Row:
    """Time ``run`` alone, once to warm up and then ``rounds`` times; ``flop`` per run gives the percent of peak."""
    run()
    times = [_timed(run) for _ in range(rounds)]
    wall, cpu = (statistics.median(column) for column in zip(*times))
    return Row(name, wall, cpu, torch.get_num_threads(), percent_of_peak=_percent(flop, wall, dtype), figures=figures or {},
               note=note)


def compare(name: str, own: Callable[[], Own], peer: Callable[[], Peer], rounds: int, *, peer_name: str,
            same: Callable[[Own, Peer], None], flop: float | None = None, dtype: torch.dtype = torch.float32,
            figures: Mapping[str, float] | None = None, note: str = "") -> Row:
    """Time ``own`` and ``peer`` in turn, after ``same`` found nothing to object to in their results.

    Before each timed run its side runs once untimed: neither then pays for what the other left in memory and caches.
    ``same`` raises DataError where the results differ: a time for another result is no time. See ``close``.
    """
    same(own(), peer())
    times = [(*_warm(own), *_warm(peer)) for _ in range(rounds)]
    wall, cpu, peer_wall, peer_cpu = (statistics.median(column) for column in zip(*times))
    ratio = statistics.median(theirs / max(ours, 1e-9) for ours, _, theirs, _ in times)
    return Row(name, wall, cpu, torch.get_num_threads(), peer_name, peer_wall, peer_cpu, ratio, _percent(flop, wall, dtype),
               figures or {}, note)


def close(relative: float) -> Callable[[Tensor, Tensor], None]:
    """A ``same`` for tensors: the largest difference is at most ``relative`` of the peer's largest value."""

    def same(own: Tensor, peer: Tensor) -> None:
        if own.shape != peer.shape:
            raise DataError(explain("the two sides have other shapes", got=tuple(own.shape), expected=tuple(peer.shape)))
        difference = float((own.double() - peer.double()).abs().max()) if own.numel() else 0.0
        bound = relative * (float(peer.double().abs().max()) if peer.numel() else 0.0)
        if not difference <= bound:
            raise DataError(explain("the two sides computed different things", got=f"a difference of {difference:.3g}",
                                    expected=f"at most {bound:.3g}"))

    return same


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def _warm(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of a call right after another."""
    run()
    return _timed(run)


def _percent(flop: float | None, seconds: float, dtype: torch.dtype) -> float | None:
    return None if flop is None else 100 * flop / seconds / peak_flops(dtype)
