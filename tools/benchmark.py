"""Time every step of a scan's way on this machine, on generated data: ``python tools/benchmark.py [--json] [--threads 2]``.

The scan is a wavy height field of 150,000 vertices with steps in it, about the size of a room of ScanNet. Each time is
the median of a few runs after one to warm up.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from pc3d.config import ModelConfig, build
from pc3d.models import build as build_model
from pc3d.nn.sparse import SparseTensor, SubMConv3d
from pc3d.ops import knn, segment_pool, segment_softmax
from pc3d.ops._library import native_error
from pc3d.structures import PointCloud
from pc3d.superpoints import compute_superpoints

ROWS, COLUMNS = 400, 375
SMALL = {"backbone": {"channels": [16, 32, 48, 64, 80], "voxel_size": 0.04}, "classes": ["object"],
         "decoder": {"num_queries": 80, "d_model": 128, "num_heads": 4, "d_ffn": 256}}


def make_scan() -> PointCloud:
    """A mesh of ROWS x COLUMNS vertices, 2 cm apart, with waves and sharp steps."""
    y, x = np.mgrid[:ROWS, :COLUMNS].reshape(2, -1)
    z = 0.1 * np.sin(x / 15) + 0.1 * np.cos(y / 20) + 0.4 * ((x // 60 + y // 50) % 2)
    first = (np.arange(ROWS - 1)[:, None] * COLUMNS + np.arange(COLUMNS - 1)).reshape(-1)
    faces = np.concatenate([np.stack([first, first + 1, first + COLUMNS], 1),
                            np.stack([first + 1, first + COLUMNS + 1, first + COLUMNS], 1)])
    rgb = np.random.default_rng(0).integers(0, 256, (len(x), 3))
    return PointCloud(xyz=np.stack([x * 0.02, y * 0.02, z], 1), faces=faces, rgb=rgb)


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of ``repeats`` runs after one that warms up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def measure(repeats: int) -> dict[str, float]:
    """Milliseconds of every step."""
    scan = make_scan()
    return {**measure_geometry(scan, repeats), **measure_pooling(scan, repeats), **measure_convolution(scan, repeats),
            **measure_network(scan, repeats)}


def measure_geometry(scan: PointCloud, repeats: int) -> dict[str, float]:
    points = torch.from_numpy(scan.xyz)
    bare = scan.replace(faces=None)
    return {"superpoints of the mesh": median_ms(lambda: compute_superpoints(scan), repeats),
            "superpoints of its bare points": median_ms(lambda: compute_superpoints(bare), repeats),
            "16 nearest neighbours": median_ms(lambda: knn(points, 16), repeats)}


def measure_pooling(scan: PointCloud, repeats: int) -> dict[str, float]:
    index = torch.arange(len(scan)) // 100
    count = int(index.max()) + 1
    x = torch.randn(len(scan), 32, generator=torch.Generator().manual_seed(0))
    times = {f"superpoint {reduce} of 32 channels": median_ms(lambda r=reduce: segment_pool(x, index, count, r), repeats)
             for reduce in ("mean", "max")}
    return {**times, "superpoint softmax of 32 channels": median_ms(lambda: segment_softmax(x, index, count), repeats)}


def measure_convolution(scan: PointCloud, repeats: int) -> dict[str, float]:
    cells = np.unique((scan.xyz / 0.02 + 20).astype(np.int32), axis=0)
    coords = torch.from_numpy(np.pad(cells, ((0, 0), (1, 0))))
    features = torch.randn(len(coords), 32, generator=torch.Generator().manual_seed(0))
    shape = tuple(int(extent) + 1 for extent in cells.max(axis=0))
    layer = SubMConv3d(32, 32, 3)
    grid = SparseTensor(features, coords, shape, 1)

    def forward_backward() -> None:
        layer(grid.replace_feature(features.detach().requires_grad_())).features.sum().backward()

    with torch.no_grad():
        cold = median_ms(lambda: layer(SparseTensor(features, coords, shape, 1)), repeats)
        warm = median_ms(lambda: layer(grid), repeats)
    name = f"3x3x3 convolution of {len(coords):,} voxels, 32 to 32"
    return {f"{name}, with its map": cold, name: warm, f"{name}, forward and backward": median_ms(forward_backward, repeats)}


def measure_network(scan: PointCloud, repeats: int) -> dict[str, float]:
    from pc3d.engine import Segmenter

    torch.manual_seed(0)
    segmenter = Segmenter(build_model(build(ModelConfig, SMALL, where="benchmark")), "cpu")
    prepared = compute_superpoints(scan)
    return {"the whole way, small network, untrained": median_ms(lambda: segmenter(prepared), min(repeats, 3))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print json instead of a table")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = {"machine": platform.machine(), "threads": options.threads, "torch": torch.__version__,
               "native": native_error() is None}
    times = measure(options.repeats)
    if options.json:
        print(json.dumps({**machine, "milliseconds": times}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for name, value in times.items():
        print(f"  {value:9.1f} ms  {name}")


if __name__ == "__main__":
    main()
