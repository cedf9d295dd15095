#include "normals.h"

#include <cmath>
#include <vector>

namespace pc3d {
namespace {

template <class T>
struct Vec3 {
  T x, y, z;
};

template <class T>
Vec3<T> face_cross(const float* xyz, const int64_t* face) {
  const float *p = xyz + 3 * face[0], *q = xyz + 3 * face[1], *r = xyz + 3 * face[2];
  const Vec3<T> u{T(q[0]) - p[0], T(q[1]) - p[1], T(q[2]) - p[2]};
  const Vec3<T> v{T(r[0]) - p[0], T(r[1]) - p[1], T(r[2]) - p[2]};
  return {u.y * v.z - u.z * v.y, u.z * v.x - u.x * v.z, u.x * v.y - u.y * v.x};
}

template <class T>
T length(const Vec3<T>& v) { return std::sqrt(v.x * v.x + v.y * v.y + v.z * v.z); }

// Whether a face of this cross product counts: not one without area, nor one with a corner that is not finite.
template <class T>
bool has_area(T norm) { return norm > 0 && std::isfinite(norm); }

void check_mesh(const Tensor& xyz, const Tensor& faces) {
  check(xyz.dim() == 2 && xyz.size(1) == 3 && xyz.scalar_type() == ScalarType::Float, "normals: xyz must be float32 (N, 3)");
  check(faces.dim() == 2 && faces.size(1) == 3 && faces.scalar_type() == ScalarType::Long,
        "normals: faces must be int64 (F, 3)");
}

// Eigenvector of the smallest eigenvalue of a symmetric matrix, by cyclic Jacobi rotations; six sweeps reach double
// precision for any 3 x 3 matrix.
Vec3<double> least_direction(double (&m)[3][3]) {
  double axes[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
  for (int sweep = 0; sweep < 6; ++sweep)
    for (int p = 0; p < 2; ++p)
      for (int q = p + 1; q < 3; ++q) {
        if (m[p][q] == 0) continue;
        const double theta = (m[q][q] - m[p][p]) / (2 * m[p][q]);
        const double t = std::copysign(1.0, theta) / (std::fabs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        const int r = 3 - p - q;
        const double rp = m[r][p], rq = m[r][q];
        m[p][p] -= t * m[p][q];
        m[q][q] += t * m[p][q];
        m[p][q] = m[q][p] = 0;
        m[r][p] = m[p][r] = c * rp - s * rq;
        m[r][q] = m[q][r] = s * rp + c * rq;
        for (auto& axis : axes) {
          const double ap = axis[p], aq = axis[q];
          axis[p] = c * ap - s * aq;
          axis[q] = s * ap + c * aq;
        }
      }
  int least = 2;  // z first, so that a spread of zero gives (0, 0, 1)
  for (int i = 1; i >= 0; --i)
    if (m[i][i] < m[least][least]) least = i;
  return {axes[0][least], axes[1][least], axes[2][least]};
}

Vec3<double> normal_of(const float* xyz, int64_t point, const int64_t* neighbors, int64_t k) {
  double sum[3] = {}, square[3][3] = {};
  const float* origin = xyz + 3 * point;  // differences to the point keep their digits far from zero
  for (int64_t j = 0; j < k; ++j) {
    const float* p = xyz + 3 * neighbors[j];
    const double d[3] = {double(p[0]) - origin[0], double(p[1]) - origin[1], double(p[2]) - origin[2]};
    for (int a = 0; a < 3; ++a) {
      sum[a] += d[a];
      for (int b = a; b < 3; ++b) square[a][b] += d[a] * d[b];
    }
  }
  for (int a = 0; a < 3; ++a)
    for (int b = a; b < 3; ++b) square[b][a] = square[a][b] = square[a][b] - sum[a] * sum[b] / double(k + 1);
  return least_direction(square);
}

double sign_of_largest(const Vec3<double>& v) {
  const double x = std::fabs(v.x), y = std::fabs(v.y), z = std::fabs(v.z);
  const double largest = x >= y && x >= z ? v.x : (y >= z ? v.y : v.z);
  return largest < 0 ? -1 : 1;
}

}  // namespace

Tensor vertex_normals(const Tensor& xyz_in, const Tensor& faces_in) {
  const Tensor xyz = torch::stable::contiguous(xyz_in), faces = torch::stable::contiguous(faces_in);
  check_mesh(xyz, faces);
  const int64_t num_points = xyz.size(0);
  std::vector<Vec3<double>> sum(num_points, {0, 0, 0});
  const int64_t* face = data<int64_t>(faces);
  for (int64_t f = 0; f < faces.size(0); ++f, face += 3) {
    const Vec3<double> n = face_cross<double>(data<float>(xyz), face);
    if (!has_area(length(n))) continue;
    for (int corner = 0; corner < 3; ++corner) {
      Vec3<double>& s = sum[face[corner]];
      s = {s.x + n.x, s.y + n.y, s.z + n.z};
    }
  }
  Tensor normals = empty(xyz, {num_points, 3}, ScalarType::Float);
  float* out = mutable_data<float>(normals);
  for (int64_t i = 0; i < num_points; ++i) {
    const double norm = length(sum[i]);
    const double scale = norm > 0 ? 1 / norm : 0;
    out[3 * i] = float(sum[i].x * scale);
    out[3 * i + 1] = float(sum[i].y * scale);
    out[3 * i + 2] = float(sum[i].z * scale);
  }
  return normals;
}

Tensor estimate_normals(const Tensor& xyz_in, const Tensor& neighbors_in) {
  const Tensor xyz = torch::stable::contiguous(xyz_in), neighbors = torch::stable::contiguous(neighbors_in);
  check(xyz.dim() == 2 && xyz.size(1) == 3 && xyz.scalar_type() == ScalarType::Float,
        "estimate_normals: xyz must be float32 (N, 3)");
  check(neighbors.dim() == 2 && neighbors.size(0) == xyz.size(0) && neighbors.scalar_type() == ScalarType::Long,
        "estimate_normals: neighbors must be int64 (N, k)");
  const int64_t k = neighbors.size(1);
  Tensor normals = empty(xyz, {xyz.size(0), 3}, ScalarType::Float);
  float* out = mutable_data<float>(normals);
  torch::stable::parallel_for(0, xyz.size(0), 1024, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Vec3<double> n = normal_of(data<float>(xyz), i, data<int64_t>(neighbors) + k * i, k);
      const double sign = sign_of_largest(n);
      out[3 * i] = float(sign * n.x);
      out[3 * i + 1] = float(sign * n.y);
      out[3 * i + 2] = float(sign * n.z);
    }
  });
  return normals;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("vertex_normals", TORCH_BOX(&pc3d::vertex_normals));
  m.impl("estimate_normals", TORCH_BOX(&pc3d::estimate_normals));
}
