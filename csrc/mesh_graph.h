// The graph that ScanNet's superpoints are segmented on: the edges of a mesh, weighed by the turn of its surface.
//
// n of a vertex is the running mean of the unit normals of its faces, in their order, float32, not renormalised; faces
// without area are left out. Edges (1-2, 1-3, 3-2) of every face, w = 1 - n_a . n_b, squared where convex, n_b . (p_b -
// p_a) > 0.
#pragma once

#include <tuple>

#include "pc3d.h"

namespace pc3d {

// xyz (N, 3) float32, faces (F, 3) int64 in [0, N) -> edges (3F, 2) int32, weights (3F,) float32.
std::tuple<Tensor, Tensor> mesh_graph(const Tensor& xyz, const Tensor& faces);

}  // namespace pc3d
