// Normals of mesh vertices and of bare points.
#pragma once

#include "pc3d.h"

namespace pc3d {

// Area-weighted unit normal of every vertex, 0 where it has no face with area (a face with a corner that is not
// finite has none). xyz (N, 3) float32, faces (F, 3) int64.
Tensor vertex_normals(const Tensor& xyz, const Tensor& faces);

// Direction of least spread of each point and its neighbours (N, k) int64: unit length, the component of largest
// size positive (the first one on a tie); (0, 0, 1) where all points coincide.
Tensor estimate_normals(const Tensor& xyz, const Tensor& neighbors);

}  // namespace pc3d
