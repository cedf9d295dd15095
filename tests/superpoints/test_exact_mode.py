"""Exact superpoints are those of the published program, written out plainly, compiled and run on the same meshes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pc3d.superpoints import segment_mesh
from tests.superpoints.conftest import make_box_room

PROGRAM = r"""
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>
struct P { float x, y, z; };
struct Edge { float w; int a, b; };
static bool lighter(const Edge& s, const Edge& t) { return s.w < t.w; }
static float dot(P a, P b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static P minus(P a, P b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
static P unit(P v) { float n = sqrtf(dot(v, v)); return {v.x / n, v.y / n, v.z / n}; }
static std::vector<int> parent, sizes, ranks;
static int find(int x) { while (parent[x] != x) x = parent[x]; return x; }
static int join(int a, int b) {
  if (ranks[a] <= ranks[b]) std::swap(a, b);
  parent[b] = a; sizes[a] += sizes[b];
  if (ranks[a] == ranks[b]) ++ranks[a];
  return a;
}
int main() {
  int n, m, smallest; float k;
  if (scanf("%d %d %f %d", &n, &m, &k, &smallest) != 4) return 1;
  std::vector<P> p(n), normal(n, P{0, 0, 0}); std::vector<int> met(n, 0); std::vector<Edge> edges;
  for (P& v : p) if (scanf("%f %f %f", &v.x, &v.y, &v.z) != 3) return 1;
  for (int f = 0; f < m; ++f) {
    int c[3]; if (scanf("%d %d %d", c, c + 1, c + 2) != 3) return 1;
    P u = minus(p[c[1]], p[c[0]]), v = minus(p[c[2]], p[c[0]]);
    P face = unit(P{u.y * v.z - u.z * v.y, u.z * v.x - u.x * v.z, u.x * v.y - u.y * v.x});
    for (int i : c) {
      float t = 1.0f / (met[i]++ + 1.0f), s = 1.0f - t; P& q = normal[i];
      q = {t * face.x + s * q.x, t * face.y + s * q.y, t * face.z + s * q.z};
    }
    edges.push_back({0, c[0], c[1]}); edges.push_back({0, c[0], c[2]}); edges.push_back({0, c[2], c[1]});
  }
  for (Edge& e : edges) {
    e.w = 1.0f - dot(normal[e.a], normal[e.b]);
    if (dot(normal[e.b], unit(minus(p[e.b], p[e.a]))) > 0) e.w *= e.w;
  }
  std::sort(edges.begin(), edges.end(), lighter);
  std::vector<float> threshold(n, k);
  for (int i = 0; i < n; ++i) { parent.push_back(i); sizes.push_back(1); ranks.push_back(0); }
  for (const Edge& e : edges) {
    int a = find(e.a), b = find(e.b);
    if (a != b && e.w <= threshold[a] && e.w <= threshold[b]) { a = join(a, b); threshold[a] = e.w + k / sizes[a]; }
  }
  for (const Edge& e : edges) {
    int a = find(e.a), b = find(e.b);
    if (a != b && (sizes[a] < smallest || sizes[b] < smallest)) join(a, b);
  }
  for (int i = 0; i < n; ++i) printf("%d\n", find(i));
#ifdef __GLIBCXX__
  return 0;
#else
  return 2;  // another std::sort than that of Linux
#endif
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("segmentator")
    (folder / "main.cpp").write_text(PROGRAM)
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    subprocess.run([compiler, "-O1", "-ffp-contract=off", folder / "main.cpp", "-o", folder / "main"], check=True)
    return folder / "main"


def run_program(program: Path, xyz: np.ndarray, faces: np.ndarray, k: float, min_size: int) -> np.ndarray:
    rows = [f"{len(xyz)} {len(faces)} {k!r} {min_size}", *(" ".join(map(repr, row)) for row in xyz.tolist()),
            *(" ".join(map(str, row)) for row in faces.tolist())]
    done = subprocess.run([program], input="\n".join(rows), capture_output=True, text=True)
    if done.returncode == 2:
        pytest.skip("std::sort of this compiler is not libstdc++'s")
    roots = np.array(done.stdout.split(), dtype=np.int64)
    _, first, ids = np.unique(roots, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[ids.reshape(-1)]  # numbered by their first vertex


@pytest.mark.parametrize(("noise", "digits", "k", "min_size"), [
    (0.0, 9, 0.01, 20), (0.0, 9, 0.2, 100), (0.004, 2, 0.01, 20), (0.004, 9, 0.01, 20), (0.004, 3, 0.001, 1)])
def test_exact_superpoints_are_those_of_the_published_program(program, noise: float, digits: int, k: float,
                                                              min_size: int) -> None:
    room = make_box_room()
    moved = (room.xyz + np.random.default_rng(0).normal(0, noise, room.xyz.shape)).round(digits).astype(np.float32)
    corners = moved[room.faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    faces = room.faces[np.abs(flat).max(axis=1) > 0]  # the program makes NaN of a face without area
    superpoints = segment_mesh(moved, faces, k_threshold=k, min_size=min_size, exact=True)
    assert np.array_equal(superpoints, run_program(program, moved, faces, k, min_size))


def test_ties_are_where_the_two_modes_part(box_room) -> None:
    exact, stable = (segment_mesh(box_room.xyz, box_room.faces, exact=mode) for mode in (True, False))
    assert not np.array_equal(exact, stable)
