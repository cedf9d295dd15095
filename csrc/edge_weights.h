// Weight of graph edges by how far the normals of their ends differ: 1 - n_a . n_b, squared where the surface is
// convex, that is n_b . (p_b - p_a) / |p_b - p_a| > 0. All in float32, in the order ScanNet's segmentator has it.
#pragma once

#include "pc3d.h"

namespace pc3d {

// xyz and normals (N, 3) float32, edges (E, 2) int64 in [0, N) -> (E,) float32.
Tensor edge_weights(const Tensor& xyz, const Tensor& normals, const Tensor& edges);

}  // namespace pc3d
