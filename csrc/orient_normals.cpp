#include "orient_normals.h"

#include <cmath>
#include <limits>
#include <vector>

#include "sorted_edges.h"

namespace pc3d {
namespace {

float dot(const float* a, const float* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// Union-find that also knows whether a point is flipped against the root of its tree.
class SignedForest {
 public:
  explicit SignedForest(int64_t count) : link_(count, -1), flipped_(count, 0) {}

  struct Place {
    int32_t root;
    uint8_t flipped;
  };
  Place find(int32_t node) {
    uint8_t flipped = 0;
    while (link_[node] >= 0) {
      const int32_t parent = link_[node];
      if (link_[parent] >= 0) {
        flipped_[node] ^= flipped_[parent];
        link_[node] = link_[parent];
      }
      flipped ^= flipped_[node];
      node = link_[node];
    }
    return {node, flipped};
  }
  void join(Place a, Place b, uint8_t opposed) {
    if (link_[a.root] > link_[b.root]) std::swap(a, b);
    link_[a.root] += link_[b.root];
    link_[b.root] = a.root;
    flipped_[b.root] = a.flipped ^ b.flipped ^ opposed;
  }

 private:
  std::vector<int32_t> link_;  // a root holds minus its size, any other node its parent
  std::vector<uint8_t> flipped_;
};

SignedForest spanning_forest(const float* normals, const int64_t* neighbors, int64_t count, int64_t k) {
  std::vector<float> weights(count * k);
  torch::stable::parallel_for(0, count, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t e = begin * k; e < end * k; ++e)
      weights[e] = 1.0f - std::fabs(dot(normals + 3 * (e / k), normals + 3 * neighbors[e]));
  });
  SignedForest forest(count);
  for (const KeyedEdge& item : sorted_by_weight(weights.data(), static_cast<uint32_t>(count * k))) {
    const int64_t a = item.edge / k, b = neighbors[item.edge];
    const auto place_a = forest.find(static_cast<int32_t>(a)), place_b = forest.find(static_cast<int32_t>(b));
    if (place_a.root != place_b.root) forest.join(place_a, place_b, dot(normals + 3 * a, normals + 3 * b) < 0);
  }
  return forest;
}

double facing(const float* point, const float* normal, const float* viewpoint) {
  const double d[3] = {double(viewpoint[0]) - point[0], double(viewpoint[1]) - point[1], double(viewpoint[2]) - point[2]};
  const double distance = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
  return distance > 0 ? (normal[0] * d[0] + normal[1] * d[1] + normal[2] * d[2]) / distance : 0;
}

}  // namespace

Tensor orient_normals(const Tensor& xyz_in, const Tensor& normals_in, const Tensor& neighbors_in, const Tensor& viewpoint_in) {
  const Tensor xyz = torch::stable::contiguous(xyz_in), normals = torch::stable::contiguous(normals_in);
  const Tensor neighbors = torch::stable::contiguous(neighbors_in), viewpoint = torch::stable::contiguous(viewpoint_in);
  for (const Tensor* rows : {&xyz, &normals})
    check(rows->dim() == 2 && rows->size(1) == 3 && rows->scalar_type() == ScalarType::Float,
          "orient_normals: xyz and normals must be float32 (N, 3)");
  const int64_t count = xyz.size(0);
  check(normals.size(0) == count && neighbors.dim() == 2 && neighbors.size(0) == count &&
            neighbors.scalar_type() == ScalarType::Long,
        "orient_normals: normals must be (N, 3) and neighbors int64 (N, k)");
  check(viewpoint.numel() == 3 && viewpoint.scalar_type() == ScalarType::Float, "orient_normals: viewpoint must be float32 (3,)");
  const int64_t k = neighbors.size(1);
  check(count * k < std::numeric_limits<uint32_t>::max(), "orient_normals: more than 2^32 edges");
  const float *point = data<float>(xyz), *normal = data<float>(normals);
  SignedForest forest = spanning_forest(normal, data<int64_t>(neighbors), count, k);
  std::vector<double> vote(count, 0.0);
  for (int64_t i = 0; i < count; ++i) {
    const auto place = forest.find(static_cast<int32_t>(i));
    const double faces = facing(point + 3 * i, normal + 3 * i, data<float>(viewpoint));
    vote[place.root] += place.flipped ? -faces : faces;
  }
  Tensor oriented = empty(xyz, {count, 3}, ScalarType::Float);
  float* out = mutable_data<float>(oriented);
  for (int64_t i = 0; i < count; ++i) {
    const auto place = forest.find(static_cast<int32_t>(i));
    const bool flip = (vote[place.root] < 0) != static_cast<bool>(place.flipped);
    for (int a = 0; a < 3; ++a) out[3 * i + a] = flip ? -normal[3 * i + a] : normal[3 * i + a];
  }
  return oriented;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("orient_normals", TORCH_BOX(&pc3d::orient_normals)); }
