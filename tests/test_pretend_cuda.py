"""On a device that is not the CPU, as a GPU is: every op, the network and a training step give the CPU's numbers there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pc3d.engine.distributed import Processes
from pc3d.engine.run import open_data
from pc3d.engine.train import Trainer
from pc3d.ops import sparse_tiles
from pc3d.ops._library import REFERENCES, native_error
from pc3d.structures import PointCloud
from tests.engine.conftest import make_config, write_dataset
from tests.ops.test_cuda_build import CUDA_OPS
from tests.pretend_cuda import pretend_cuda

sys.path.append(str(Path(__file__).resolve().parent.parent / "tools"))

import gpu_comparisons
import gpu_sparse

pytestmark = pytest.mark.skipif(native_error() is not None, reason="the native library was not built")
CASES = {case: make for case, make in gpu_comparisons.op_cases().items() if case.split()[1] == "tiny"}


def kernel(op: str) -> Callable[..., Any] | None:
    """What the CPU has of a CUDA kernel: its twin, or the op's own kernel."""
    if op in ("sparse_conv_tiled", "sparse_conv_tiled_weight_grad"):
        return lambda *arguments: getattr(torch.ops.pc3d, f"twin_{op}")(*arguments, False)
    return getattr(torch.ops.pc3d, op) if op in CUDA_OPS else None


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The device cuda:0, with all kernels of pc3d."""
    monkeypatch.setattr(sparse_tiles, "has_kernel", lambda op, device: True)
    with pretend_cuda(kernel):
        yield


def test_tensors_of_two_devices_do_not_meet() -> None:
    x = torch.arange(3).to("cuda:0")
    assert x.is_cuda
    assert (x + torch.ones(3, device="cuda:0")).cpu().tolist() == [1, 2, 3]
    assert x[torch.arange(2)].tolist() == [0, 1]
    for mix in (lambda: x + torch.ones(3), lambda: torch.ones(3)[x], lambda: torch.ones(3).index_add_(0, x, torch.ones(3))):
        with pytest.raises(RuntimeError, match="same device"):
            mix()
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(x)


def test_every_op_has_a_case_here() -> None:
    assert {case.split()[0] for case in CASES} == set(REFERENCES)


@pytest.mark.parametrize("case", CASES)
def test_an_op_runs_where_its_tensors_are(case: str) -> None:
    row = gpu_comparisons.compare_op(case, CASES[case], "cuda:0")
    assert row.ok, row


@pytest.mark.parametrize("case", [("cube", 0, 8, 8), ("cube", 300, 7, 13), ("down", 400, 23, 40), ("up", 400, 40, 23)], ids=str)
def test_sparse_convolution_in_every_type(case: tuple[str, int, int, int]) -> None:
    for (dtype, tf32), tolerance in gpu_sparse.KINDS.items():
        row = gpu_sparse.compare_convolution(str(case), *case, dtype, tf32, tolerance, "cuda:0")
        assert row.ok, row


def test_the_network_gives_the_numbers_of_the_cpu(small_network: PointCloud) -> None:
    rows = list(gpu_comparisons.compare_network("cuda:0", small_network))
    assert not [row for row in rows if not row.ok], rows


def test_training_goes_as_on_the_cpu(tmp_path: Path) -> None:
    scans, _, config = open_data(make_config(write_dataset(tmp_path / "data"), tmp_path / "run"))
    curves = []
    for device in ("cpu", "cuda:0"):
        steps = Trainer(config, scans, Processes(torch.device(device))).steps()
        curves.append([[record[name] for name in ("loss", "grad_norm")] for record, _ in zip(steps, range(2))])
    assert np.allclose(curves[1], curves[0], rtol=2e-3), curves
