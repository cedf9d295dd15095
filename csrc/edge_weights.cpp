#include "edge_weights.h"

#include <cmath>

namespace pc3d {
namespace {

float edge_weight(const float* p, const float* q, const float* n, const float* m) {
  const float x = q[0] - p[0], y = q[1] - p[1], z = q[2] - p[2];
  const float length = std::sqrt(x * x + y * y + z * z);
  const float rise = m[0] * (x / length) + m[1] * (y / length) + m[2] * (z / length);
  const float weight = 1.0f - (n[0] * m[0] + n[1] * m[1] + n[2] * m[2]);
  return rise > 0 ? weight * weight : weight;
}

}  // namespace

Tensor edge_weights(const Tensor& xyz_in, const Tensor& normals_in, const Tensor& edges_in) {
  const Tensor xyz = torch::stable::contiguous(xyz_in), normals = torch::stable::contiguous(normals_in);
  const Tensor edges = torch::stable::contiguous(edges_in);
  check(xyz.dim() == 2 && xyz.size(1) == 3 && xyz.scalar_type() == ScalarType::Float,
        "edge_weights: xyz must be float32 (N, 3)");
  check(normals.dim() == 2 && normals.size(0) == xyz.size(0) && normals.size(1) == 3 &&
            normals.scalar_type() == ScalarType::Float,
        "edge_weights: normals must be float32 (N, 3)");
  check(edges.dim() == 2 && edges.size(1) == 2 && edges.scalar_type() == ScalarType::Long,
        "edge_weights: edges must be int64 (E, 2)");
  Tensor weights = empty(xyz, {edges.size(0)}, ScalarType::Float);
  const float *p = data<float>(xyz), *n = data<float>(normals);
  const int64_t* edge = data<int64_t>(edges);
  float* out = mutable_data<float>(weights);
  torch::stable::parallel_for(0, edges.size(0), 16384, [&](int64_t begin, int64_t end) {
    for (int64_t e = begin; e < end; ++e) {
      const int64_t a = 3 * edge[2 * e], b = 3 * edge[2 * e + 1];
      out[e] = edge_weight(p + a, p + b, n + a, n + b);
    }
  });
  return weights;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("edge_weights", TORCH_BOX(&pc3d::edge_weights)); }
