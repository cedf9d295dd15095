"""Without the native library the references run: the same results, and one warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pc3d.ops._library import native_error, newer_source

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import sys, warnings
import numpy as np, torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from pc3d.ops import knn, segment_pool, segment_softmax
    from pc3d.ops._library import has_kernel
    from pc3d.superpoints import cloud_normals, segment_cloud, segment_mesh
    generator = torch.Generator().manual_seed(0)
    x, index = torch.randn(200, 5, generator=generator), torch.arange(200) % 7
    xyz = torch.rand(400, 3, generator=generator)
    corner = torch.cat([xyz * torch.tensor([1, 1, 0.0]), xyz * torch.tensor([1, 0.0, 1])])
    faces = torch.randint(0, 400, (500, 3), generator=generator)
    results = {
        "pool": [segment_pool(x, index, 8, reduce) for reduce in ("mean", "max", "sum")],
        "softmax": segment_softmax(x, index, 8),
        "neighbors": knn(xyz, 5),
        "mesh": torch.from_numpy(segment_mesh(xyz.numpy(), faces.numpy())),
        "cloud": torch.from_numpy(segment_cloud(corner.numpy())),
        "normals": torch.from_numpy(cloud_normals(corner.numpy())),
    }
results["warnings"] = [str(w.message) for w in caught if w.category is RuntimeWarning]
results["kernel"] = has_kernel("segment_sum")
torch.save(results, sys.argv[1])
"""


def run(result: Path, **environment: str) -> dict:
    subprocess.run([sys.executable, "-c", PROGRAM, str(result)], cwd=ROOT, check=True, env={**os.environ, **environment})
    return torch.load(result, weights_only=True)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run(tmp_path_factory.mktemp("native") / "off.pt", PC3D_NATIVE="0")


def test_exactly_one_warning_says_why_and_what_to_do(without: dict) -> None:
    (message,) = without["warnings"]
    assert "switched off by PC3D_NATIVE=0" in message
    assert "pc3d doctor" in message
    assert without["kernel"] is False


@pytest.mark.skipif(native_error() is not None, reason="the native library was not built here")
def test_the_references_give_the_results_of_the_kernels(without: dict, tmp_path: Path) -> None:
    native = run(tmp_path / "on.pt", PC3D_NATIVE="1")
    assert native["warnings"] == []
    assert native["kernel"] is True
    for name in ("neighbors", "mesh"):
        assert torch.equal(native[name], without[name]), name
    assert (native["cloud"] == without["cloud"]).float().mean() > 0.95  # estimated normals differ in the last bit
    for name in ("pool", "softmax", "normals"):
        torch.testing.assert_close(native[name], without[name], rtol=1e-5, atol=1e-5)


def test_a_library_older_than_its_sources_is_known(tmp_path: Path) -> None:
    library, source = tmp_path / "_C.abi3.so", tmp_path / "csrc" / "knn.cpp"
    source.parent.mkdir()
    for path, when in ((library, 100), (source, 50)):
        path.touch()
        os.utime(path, (when, when))
    assert newer_source(library, source.parent) is None
    os.utime(source, (150, 150))
    assert newer_source(library, source.parent) == "knn.cpp"
    assert newer_source(library, tmp_path / "installed without sources") is None
