// Which points share a voxel (meaning: pc3d/ops/voxel_ids.py).
#pragma once

#include <tuple>

#include "pc3d.h"

namespace pc3d {

// positions (N, 3) float32 in [0, 2^16) -> voxel coordinates (V, 3) int32 in the order of (x, y, z), voxel of each point (N,)
// int64.
std::tuple<Tensor, Tensor> voxel_ids(const Tensor& positions);

}  // namespace pc3d
