"""tools/gpu_check.py where there is no GPU: it says so, its cases run, and it sees what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pc3d.ops._library import REFERENCES
from pc3d.structures import PointCloud

sys.path.append(str(Path(__file__).resolve().parent.parent / "tools"))

import gpu_check
import gpu_comparisons


def test_no_gpu_is_a_missing_backend(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--only", "ops"]) == 5
    assert "no CUDA device is usable here" in capsys.readouterr().err


def test_every_op_has_a_case_and_all_cases_run() -> None:
    rows = list(gpu_comparisons.compare_ops("cpu"))
    assert {row.what.split()[0] for row in rows} == set(REFERENCES)
    assert not [row for row in rows if not row.ok]
    assert {row.what.split()[0] for row in rows if row.numbers["backward"] is not None} == set(gpu_comparisons.DIFFERENTIABLE)


def test_a_kernel_that_is_wrong_or_throws_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {"knn tiny": gpu_comparisons.op_cases()["knn tiny"], "knn bad": lambda: (torch.zeros(2, 7), 1)}
    monkeypatch.setattr(gpu_comparisons, "op_cases", lambda: cases)
    honest = gpu_comparisons.run_op
    monkeypatch.setattr(gpu_comparisons, "run_op", lambda op, arguments, device: (
        honest(op, arguments, "cpu") if device == "cpu" else ([y + 1 for y in honest(op, arguments, "cpu")[0]], [])))
    rows = list(gpu_comparisons.compare_ops("cpu:0"))
    assert [row.ok for row in rows] == [False, False]
    assert "problem" in rows[1].numbers


def test_the_network_part_compares_outputs_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu_comparisons.NETWORK, "backbone", {"channels": [4, 8], "block_reps": 1, "voxel_size": 0.3})
    monkeypatch.setitem(gpu_comparisons.NETWORK["decoder"], "num_layers", 2)
    rng = np.random.default_rng(0)
    room = PointCloud(xyz=rng.random((400, 3)) * 3, rgb=rng.integers(0, 256, (400, 3)), superpoints=np.arange(400) % 20,
                      normals=np.tile([0.0, 0.0, 1.0], (400, 1)))
    rows = list(gpu_comparisons.compare_network("cpu", room))
    assert {row.what.split(",")[0] for row in rows} == {"class logits", "scores", "centres", "masks", "gradients"}
    assert all(row.ok for row in rows)


def test_the_report_is_markdown_with_device_and_date_and_json() -> None:
    times = [{"what": row.what, **row.numbers, "ok": row.ok} for row in
             gpu_comparisons.benchmark("cpu", sizes=(2000,), repeats=1)]
    bad = [{"what": "knn tiny", "kernel": "native", "forward": 0.5, "backward": None, "ok": False}]
    report = {"machine": {"device": "Some GPU", "date": "2026-01-02", "torch": "2", "cuda": "13"}, "ops": bad, "bench": times}
    text = gpu_check.markdown(report)
    assert text.startswith("## Some GPU, 2026-01-02")
    assert "| what | kernel | forward | ok |" in text
    assert "| knn tiny | native | 0.5 | **NO** |" in text
    assert "| what | pc3d ms | torch ms | times faster |" in text
    json.dumps(report)
