// Signs of normals that agree between neighbours (Hoppe et al., SIGGRAPH 1992).
//
// A minimum spanning forest of the neighbour graph, with weight 1 - |n_a . n_b|, carries the sign from point to point;
// every tree is then turned so that its normals, on the whole, face the viewpoint.
#pragma once

#include "pc3d.h"

namespace pc3d {

// xyz and unit normals (N, 3) float32, neighbors (N, k) int64 in [0, N), viewpoint (3,) float32 -> (N, 3) float32.
Tensor orient_normals(const Tensor& xyz, const Tensor& normals, const Tensor& neighbors, const Tensor& viewpoint);

}  // namespace pc3d
