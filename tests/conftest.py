"""Fixtures for every room: random numbers that repeat, and skips that say why."""

from __future__ import annotations

import importlib
import os

import numpy as np
import pytest
import torch

from pc3d.structures import PointCloud

NO_GPU = "needs a CUDA device"


class OnlyGpuSkips:
    """In CI everything is installed: a test skipped for any reason but a missing GPU fails the run."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look_at(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look_at(report)

    def _look_at(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            if NO_GPU not in reason:
                self.reasons[report.nodeid] = reason

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.reasons and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for test, reason in self.reasons.items():
            terminalreporter.write_line(f"SKIPPED IN CI {test}: {reason}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true" and not hasattr(config, "workerinput"):  # xdist's workers report to the controller
        config.pluginmanager.register(OnlyGpuSkips())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=NO_GPU))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> PointCloud:
    """A small room, for the network that ``tools/gpu_comparisons.py`` compares, which is small too meanwhile."""
    network = importlib.import_module("gpu_comparisons").NETWORK
    monkeypatch.setitem(network, "backbone", {"channels": [4, 8], "block_reps": 1, "voxel_size": 0.3})
    monkeypatch.setitem(network["decoder"], "num_layers", 2)
    return PointCloud(xyz=rng.random((400, 3)) * 3, rgb=rng.integers(0, 256, (400, 3)), superpoints=np.arange(400) % 20,
                      normals=np.tile([0.0, 0.0, 1.0], (400, 1)))


@pytest.fixture(scope="session")
def open3d():
    """Open3D, or a skip: its import fails on machines without libusb and GL."""
    try:
        return importlib.import_module("open3d")
    except (ImportError, OSError) as error:
        pytest.skip(f"Open3D does not import here: {error}")
