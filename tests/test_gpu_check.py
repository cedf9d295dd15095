"""tools/gpu_check.py where there is no GPU: it says so, its cases run, and it sees what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from pc3d.ops._library import REFERENCES
from pc3d.ops.sparse_conv import sparse_conv
from pc3d.structures import PointCloud

sys.path.append(str(Path(__file__).resolve().parent.parent / "tools"))

import gpu_check
import gpu_comparisons
import gpu_sparse


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


def test_the_network_part_compares_outputs_and_gradients(small_network: PointCloud) -> None:
    rows = list(gpu_comparisons.compare_network("cpu", small_network))
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



@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A machine that says it has a GPU, whose parts only note that they ran; the arguments for a state file of its own."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(gpu_check, "build_library", lambda: None)
    monkeypatch.setattr(gpu_check, "has_cuda_kernels", lambda: True)
    monkeypatch.setattr(gpu_check, "run_tests", lambda: [{"what": "tests/gpu", "result": "3 passed", "ok": True}])
    monkeypatch.setattr(gpu_check, "run_part", lambda part, device: [{"what": f"{part} on {device}", "ok": None}])
    return ["--state", str(tmp_path / "state" / "gpu.json")]


def test_a_library_without_cuda_kernels_is_not_taken_for_proven(
    on_a_gpu: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gpu_check, "has_cuda_kernels", lambda: False)
    assert gpu_check.main(on_a_gpu) == 5
    assert "expected an nvcc" in capsys.readouterr().err


def test_parts_that_are_done_are_not_done_again(on_a_gpu: list[str], monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([*on_a_gpu, "--minutes", "0"]) == 75
    assert "run the same command again" in capsys.readouterr().err
    assert gpu_check.main([*on_a_gpu, "--only", "ops"]) == 0
    monkeypatch.setattr(gpu_check, "run_part", lambda part, device: [{"what": f"{part} later", "ok": True}])
    assert gpu_check.main([*on_a_gpu]) == 0
    text = capsys.readouterr().out
    assert "| ops on cuda |" in text
    assert "| unet later | yes |" in text
    assert "3 passed" in text


def test_what_differs_is_the_exit_code_also_when_it_was_seen_before(
    on_a_gpu: list[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_check, "run_part", lambda part, device: [{"what": part, "ok": False}])
    assert gpu_check.main([*on_a_gpu, "--only", "sparse"]) == 1
    monkeypatch.setattr(gpu_check, "run_part", lambda part, device: [{"what": part, "ok": True}])
    assert gpu_check.main([*on_a_gpu, "--only", "sparse"]) == 1
    assert gpu_check.main([*on_a_gpu, "--only", "sparse", "--fresh"]) == 0


def test_results_of_another_machine_or_source_are_not_taken_up(on_a_gpu: list[str], monkeypatch: pytest.MonkeyPatch,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(on_a_gpu) == 0
    for name, value in (("sources_hash", lambda: "other"), ("machine", lambda: {**dict.fromkeys(("date", "torch", "cuda"), ""),
                                                                                "device": "Other GPU"})):
        monkeypatch.setattr(gpu_check, name, value)
        assert gpu_check.main([*on_a_gpu, "--minutes", "0"]) == 75
    assert "left" in capsys.readouterr().err


def test_sparse_comparisons_run_and_agree_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_sparse, "convolution_cases", lambda: [("cube", 0, 8, 8), ("cube", 300, 7, 13), ("up", 500, 5, 4)])
    rows = [*gpu_sparse.compare_convolutions("cpu"), *gpu_sparse.compare_maps("cpu"), gpu_sparse.compare_large("cpu", 4000, 16)]
    assert not [row for row in rows if not row.ok]
    assert len({row.what for row in rows}) == len(rows) == 15 + 12 + 1


def test_a_wrong_sparse_convolution_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_sparse, "convolution_cases", lambda: [("cube", 300, 7, 13)])
    honest, calls = gpu_sparse.gradients, []

    def wrong(*arguments: object) -> tuple[torch.Tensor, ...]:
        calls.append(arguments)
        y, *rest = honest(*arguments)
        return (y, *rest) if len(calls) % 3 == 1 else (1.1 * y, *rest)  # the CPU's result stays right

    monkeypatch.setattr(gpu_sparse, "gradients", wrong)
    assert [row.ok for row in gpu_sparse.compare_convolutions("cpu")] == [False] * len(gpu_sparse.KINDS)


def test_the_unet_is_timed_against_plain_torch_after_results_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_sparse, "find_spec", lambda name: None)
    scene = torch.nonzero(torch.rand(12, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.2).int()
    scene = torch.nn.functional.pad(scene, (1, 0))
    rows = list(gpu_sparse.benchmark_unet("cpu", channels=(4, 8), repeats=1, scene=scene))
    assert len(rows) == 8
    exact = [row for row in rows if row.what.endswith("float32")]
    assert all(row.ok and {"pc3d ms", "torch ms", "times faster", "difference"} <= set(row.numbers) for row in exact)
    monkeypatch.setattr(gpu_sparse, "OffsetProducts", lambda: lambda x, weight, pairs: sparse_conv(x, weight.flip(1), pairs))
    assert not any(row.ok for row in gpu_sparse.benchmark_unet("cpu", channels=(4, 8), repeats=1, scene=scene))
