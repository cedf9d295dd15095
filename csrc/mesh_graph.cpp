#include "mesh_graph.h"

#include <cmath>
#include <limits>
#include <vector>

namespace pc3d {
namespace {

struct Vec {
  float x, y, z;
};

Vec operator-(const Vec& a, const Vec& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
float dot(const Vec& a, const Vec& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
Vec divided(const Vec& v, float by) { return {v.x / by, v.y / by, v.z / by}; }
Vec cross(const Vec& u, const Vec& v) { return {u.y * v.z - u.z * v.y, u.z * v.x - u.x * v.z, u.x * v.y - u.y * v.x}; }

std::vector<Vec> running_mean_normals(const Vec* xyz, int64_t num_points, const int64_t* face, int64_t num_faces) {
  std::vector<Vec> normals(num_points, Vec{0, 0, 0});
  std::vector<float> count(num_points, 0.0f);
  for (const int64_t* end = face + 3 * num_faces; face < end; face += 3) {
    const Vec p = xyz[face[0]], area = cross(xyz[face[1]] - p, xyz[face[2]] - p);
    const float norm = std::sqrt(dot(area, area));
    if (!(norm > 0) || !std::isfinite(norm)) continue;
    const Vec unit = divided(area, norm);
    for (int corner = 0; corner < 3; ++corner) {
      Vec& n = normals[face[corner]];
      const float v = 1.0f / (count[face[corner]]++ + 1.0f), u = 1.0f - v;
      n = {v * unit.x + u * n.x, v * unit.y + u * n.y, v * unit.z + u * n.z};
    }
  }
  return normals;
}

float edge_weight(const Vec& p, const Vec& q, const Vec& n, const Vec& m) {
  const Vec step = q - p;
  const float rise = dot(m, divided(step, std::sqrt(dot(step, step))));
  const float weight = 1.0f - dot(n, m);
  return rise > 0 ? weight * weight : weight;
}

}  // namespace

std::tuple<Tensor, Tensor> mesh_graph(const Tensor& xyz_in, const Tensor& faces_in) {
  const Tensor xyz = torch::stable::contiguous(xyz_in), faces = torch::stable::contiguous(faces_in);
  check(xyz.dim() == 2 && xyz.size(1) == 3 && xyz.scalar_type() == ScalarType::Float,
        "mesh_graph: xyz must be float32 (N, 3)");
  check(faces.dim() == 2 && faces.size(1) == 3 && faces.scalar_type() == ScalarType::Long,
        "mesh_graph: faces must be int64 (F, 3)");
  check(xyz.size(0) < std::numeric_limits<int32_t>::max(), "mesh_graph: more than 2^31 points");
  const int64_t num_faces = faces.size(0);
  static_assert(sizeof(Vec) == 3 * sizeof(float), "points are read in place");
  const Vec* points = reinterpret_cast<const Vec*>(data<float>(xyz));
  const int64_t* face = data<int64_t>(faces);
  const std::vector<Vec> normals = running_mean_normals(points, xyz.size(0), face, num_faces);

  Tensor edges = empty(faces, {3 * num_faces, 2}, ScalarType::Int), weights = empty(xyz, {3 * num_faces}, ScalarType::Float);
  int32_t* edge = mutable_data<int32_t>(edges);
  float* weight = mutable_data<float>(weights);
  constexpr int ends[3][2] = {{0, 1}, {0, 2}, {2, 1}};
  torch::stable::parallel_for(0, num_faces, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t f = begin; f < end; ++f)
      for (int side = 0; side < 3; ++side) {
        const int64_t a = face[3 * f + ends[side][0]], b = face[3 * f + ends[side][1]], e = 3 * f + side;
        edge[2 * e] = static_cast<int32_t>(a);
        edge[2 * e + 1] = static_cast<int32_t>(b);
        weight[e] = edge_weight(points[a], points[b], normals[a], normals[b]);
      }
  });
  return {edges, weights};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("mesh_graph", TORCH_BOX(&pc3d::mesh_graph)); }
