"""``pc3d bench superpoints``: the superpoints of a mesh of 150,000 vertices, on one core, in both modes.

The peer is the same algorithm written plainly: normals and weights in torch, the sort and the joining of components in
Python (the ops' own references, which define them to the bit).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pc3d.bench.compare import Row, close, compare
from pc3d.bench.scene import make_scene
from pc3d.ops._library import REFERENCES
from pc3d.superpoints import segment_mesh

VERTICES = 150_000
PEER_ROUNDS = 2  # it takes seconds


def run(rounds: int) -> Iterator[Row]:
    """Stable and exact mode, one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for mode, exact in (("stable", False), ("exact", True)):
            yield _compare(mode, exact, min(rounds, PEER_ROUNDS))
    finally:
        torch.set_num_threads(threads)


def _compare(mode: str, exact: bool, rounds: int) -> Row:
    scene = make_scene()[:VERTICES]
    faces = scene.faces
    assert faces is not None
    xyz, triangles = torch.from_numpy(scene.xyz), torch.from_numpy(faces)

    def own() -> Tensor:
        return torch.from_numpy(segment_mesh(scene.xyz, faces, exact=exact))

    def peer() -> Tensor:
        return REFERENCES["felzenszwalb"](*REFERENCES["mesh_graph"](xyz, triangles), len(xyz), 0.01, 20, exact)

    return compare(f"superpoints of {len(xyz):,} vertices, {mode}", own, peer, rounds, peer_name="plain torch and Python",
                   same=close(0), note=f"{len(faces):,} faces, {3 * len(faces):,} edges")
