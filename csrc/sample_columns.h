// What a training sample keeps of a scan's points, each in one pass (meaning: pc3d/ops/point_features.py and
// pc3d/ops/instance_sums.py).
#pragma once

#include <tuple>

#include "pc3d.h"

namespace pc3d {

// rgb (N, 3) uint8 or (0, 3), xyz (N, 3) float32, normals (N, 3) float32 or (0, 3), shift (3,) float32 -> (N, 9) float32.
Tensor point_features(const Tensor& rgb, const Tensor& xyz, const Tensor& normals, const Tensor& shift);

// instance (N,) int64 in [-1, I), superpoint (N,) int64 in [0, S), xyz (N, 3) float32 -> counts (I + 1, S) int64, sums (I, 3)
// float64; the last row of the counts is that of instance -1.
std::tuple<Tensor, Tensor> instance_sums(const Tensor& instance, const Tensor& superpoint, const Tensor& xyz,
                                         int64_t num_instances, int64_t num_superpoints);

}  // namespace pc3d
