"""The frame of all benchmarks: results are compared before they are timed, and rows say what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pc3d import bench
from pc3d.bench.compare import Row, close, compare, measure
from pc3d.bench.machine import peak_flops
from pc3d.bench.scene import make_scene, voxel_coords
from pc3d.cli import main
from pc3d.errors import DataError


def test_sides_that_differ_are_not_timed() -> None:
    calls = []

    def own() -> torch.Tensor:
        calls.append("own")
        return torch.ones(3)

    with pytest.raises(DataError, match=r"different things; got a difference of 0\.01"):
        compare("sum", own, lambda: torch.ones(3) * 1.01, 3, peer_name="torch", same=close(1e-3))
    assert calls == ["own"]


@pytest.mark.parametrize("own", [torch.ones(2), torch.full((3,), torch.nan)], ids=["shape", "nan"])
def test_another_shape_and_nan_are_differences(own: torch.Tensor) -> None:
    with pytest.raises(DataError):
        close(1.0)(own, torch.ones(3))


def test_own_and_peer_run_in_turn_each_warm() -> None:
    calls: list[str] = []
    own, peer = (lambda side=side: calls.append(side) for side in ("own", "peer"))
    row = compare("noop", own, peer, 3, peer_name="twin", same=lambda a, b: None)
    assert calls == ["own", "peer"] + ["own", "own", "peer", "peer"] * 3
    assert row.ratio is not None
    assert row.peer == "twin"


def test_a_row_holds_what_was_measured_and_nothing_else() -> None:
    row = measure("noop", lambda: None, 1, figures={"peak_mb": 2.0})
    assert {"name", "seconds", "cpu_seconds", "threads", "peak_mb"} == set(row.to_json())


def test_percent_of_peak_is_flop_over_time_over_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pc3d.bench.compare.peak_flops", lambda dtype: 1e12)
    row = measure("noop", lambda: None, 1, flop=1e3)
    assert row.percent_of_peak == pytest.approx(1e5 / row.seconds / 1e12)


def test_a_machine_has_a_peak() -> None:
    assert peak_flops() > 1e8


def test_scene_s_is_the_one_the_figures_speak_of() -> None:
    scene = make_scene()
    assert (len(scene), len(voxel_coords(scene))) == (172_089, 139_864)
    assert scene.faces is not None
    edges = scene.xyz[scene.faces] - scene.xyz[np.roll(scene.faces, 1, axis=1)]
    assert np.linalg.norm(edges, axis=2).max() < 0.1  # triangles join neighbours, never two surfaces


def test_the_verb_prints_a_json_object_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def one_row(rounds: int) -> Iterator[Row]:
        yield Row("conv", 0.5, 0.9, 2, "spconv", 2.0, 3.9, 4.0, figures={"peak_mb": 7.0})

    monkeypatch.setattr(bench, "BENCHMARKS", {"tiny": one_row})
    assert main(["bench", "tiny", "--json"]) == 0
    machine, row = map(json.loads, capsys.readouterr().out.splitlines())
    assert machine["threads"] >= 1
    assert row == {"benchmark": "tiny", "name": "conv", "seconds": 0.5, "cpu_seconds": 0.9, "threads": 2, "peer": "spconv",
                   "peer_seconds": 2.0, "peer_cpu_seconds": 3.9, "ratio": 4.0, "peak_mb": 7.0}
    assert main(["bench", "tiny"]) == 0
    assert "500.0" in capsys.readouterr().out


def test_an_unknown_benchmark_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "spede"]) == 4
    assert "steps" in capsys.readouterr().err
