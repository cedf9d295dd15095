"""Small scans and small broken files for the readers and writers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pc3d.structures import Instances, PointCloud


@pytest.fixture
def scan() -> PointCloud:
    """60 points with every column, 40 triangles, and attributes of several types."""
    rng = np.random.default_rng(3)
    normals = rng.normal(size=(60, 3)).astype(np.float32)
    return PointCloud(
        xyz=rng.normal(size=(60, 3)).astype(np.float32), rgb=rng.integers(0, 256, (60, 3)).astype(np.uint8),
        normals=normals / np.linalg.norm(normals, axis=1, keepdims=True), intensity=rng.random(60).astype(np.float32),
        faces=rng.integers(0, 60, (40, 3)), labels=rng.integers(-1, 18, 60), instances=rng.integers(-1, 9, 60),
        superpoints=rng.integers(0, 12, 60),
        attributes={"alpha": rng.integers(0, 256, 60).astype(np.uint8), "gps_time": rng.random(60) * 1e9,
                    "ring": rng.integers(-9, 9, 60).astype(np.int16), "range": rng.random(60).astype(np.float32)})


@pytest.fixture
def found() -> Instances:
    """Four instances over the 12 superpoints of ``scan``, filled in by the tests that need points."""
    rng = np.random.default_rng(4)
    return Instances.from_masks(rng.random((4, 12)) > 0.6, [0, 2, 1, 0], rng.random(4), ("chair", "table", "sofa"))


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """Write bytes or text into a file of the test's folder and return its path."""

    def write_bytes(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_bytes
