#include "scan_columns.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace pc3d {
namespace {

typedef float Four __attribute__((vector_size(16)));
typedef double FourDoubles __attribute__((vector_size(32)));

constexpr int64_t kSparse = 8;  // ids that span more than so many times the points are sorted, not counted

void check_points(const Tensor& points, ScalarType dtype, const char* message) {
  check(points.dim() == 2 && points.size(1) == 3 && points.scalar_type() == dtype && points.is_contiguous(), message);
}

// Numbers that keep NaN, as torch's amin and amax do.
float lesser(float a, float b) { return a != a || a < b ? a : b; }
float greater(float a, float b) { return a != a || a > b ? a : b; }

// Rows [begin, end) moved, four at a time.
void move(const float* from, const float* shift, float* to, int64_t begin, int64_t end) {
  Four by[3];  // x y z x, y z x y, z x y z
  for (int lane = 0; lane < 12; ++lane) by[lane / 4][lane % 4] = shift[lane % 3];
  int64_t i = begin;
  for (; i + 4 <= end; i += 4)
    for (int part = 0; part < 3; ++part) {
      Four read;
      std::memcpy(&read, from + 3 * i + 4 * part, sizeof(read));
      read += by[part];
      std::memcpy(to + 3 * i + 4 * part, &read, sizeof(read));
    }
  for (; i < end; ++i)
    for (int axis = 0; axis < 3; ++axis) to[3 * i + axis] = from[3 * i + axis] + shift[axis];
}

// 1 / length by squared length, of three signed bytes.
const std::vector<float>& reciprocals() {
  static const std::vector<float> table = [] {
    std::vector<float> made(3 * 128 * 128 + 1, 1.0f);
    for (size_t square = 1; square < made.size(); ++square) made[square] = 1.0f / std::sqrt(static_cast<float>(square));
    return made;
  }();
  return table;
}

// Rising ids of the points that have both a label and an id, each once, with the label of its first point.
struct Known {
  std::vector<int64_t> ids, labels;
};

Known known_ids(const int64_t* label, const int64_t* id, int64_t count) {
  std::vector<std::pair<int64_t, int64_t>> found;  // id, first point
  for (int64_t i = 0; i < count; ++i)
    if (label[i] >= 0 && id[i] >= 0 && (found.empty() || found.back().first != id[i])) found.emplace_back(id[i], i);
  std::sort(found.begin(), found.end());
  Known known;
  for (const auto& [number, point] : found)
    if (known.ids.empty() || known.ids.back() != number) {
      known.ids.push_back(number);
      known.labels.push_back(label[point]);
    }
  return known;
}

}  // namespace

Tensor column_stats(const Tensor& points) {
  check_points(points, ScalarType::Float, "column_stats: points must be contiguous float32 (N, 3)");
  const int64_t count = points.size(0);
  check(count > 0, "column_stats: there are no points");
  const float* p = data<float>(points);
  Four low[3], high[3];  // of x y z x, y z x y, z x y z
  FourDoubles sum[3] = {};
  for (int part = 0; part < 3; ++part)
    for (int lane = 0; lane < 4; ++lane) low[part][lane] = high[part][lane] = p[(4 * part + lane) % 3];
  int64_t i = 0;
  for (; i + 4 <= count; i += 4)
    for (int part = 0; part < 3; ++part) {
      Four read;
      std::memcpy(&read, p + 3 * i + 4 * part, sizeof(read));
      low[part] = read < low[part] ? read : low[part];
      high[part] = read > high[part] ? read : high[part];
      sum[part] += __builtin_convertvector(read, FourDoubles);
    }
  Tensor stats = empty(points, {3, 3}, ScalarType::Double);
  double* out = mutable_data<double>(stats);
  for (int axis = 0; axis < 3; ++axis) {
    float least = p[axis], most = p[axis];
    double total = 0;
    for (int lane = axis; lane < 12; lane += 3) {
      least = std::min(least, low[lane / 4][lane % 4]);
      most = std::max(most, high[lane / 4][lane % 4]);
      total += sum[lane / 4][lane % 4];
    }
    for (int64_t row = i; row < count; ++row) {
      least = std::min(least, p[3 * row + axis]);
      most = std::max(most, p[3 * row + axis]);
      total += p[3 * row + axis];
    }
    if (!std::isfinite(total))  // there may be NaN, which the comparisons above pass over
      for (int64_t row = 0; row < count; ++row) {
        least = lesser(least, p[3 * row + axis]);
        most = greater(most, p[3 * row + axis]);
      }
    out[axis] = least;
    out[3 + axis] = most;
    out[6 + axis] = total / static_cast<double>(count);
  }
  return stats;
}

Tensor map_points(const Tensor& points, const Tensor& shift, const Tensor& matrix) {
  check_points(points, ScalarType::Float, "map_points: points must be contiguous float32 (N, 3)");
  check_points(matrix, ScalarType::Float, "map_points: matrix must be contiguous float32 (3, 3)");
  check(shift.numel() == 3 && shift.scalar_type() == ScalarType::Float && shift.is_contiguous(),
        "map_points: shift must be float32 (3,)");
  check(matrix.size(0) == 3 || matrix.size(0) == 0, "map_points: matrix must have three rows or none");
  const int64_t count = points.size(0);
  Tensor mapped = empty(points, {count, 3}, ScalarType::Float);
  const float *from = data<float>(points), *s = data<float>(shift);
  float* to = mutable_data<float>(mapped);
  if (!matrix.size(0)) {
    torch::stable::parallel_for(0, count, 16384, [&](int64_t begin, int64_t end) { move(from, s, to, begin, end); });
    return mapped;
  }
  const float* m = data<float>(matrix);
  const Four x{m[0], m[1], m[2]}, y{m[3], m[4], m[5]}, z{m[6], m[7], m[8]};
  torch::stable::parallel_for(0, count, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Four row = (from[3 * i] + s[0]) * x + (from[3 * i + 1] + s[1]) * y + (from[3 * i + 2] + s[2]) * z;
      for (int axis = 0; axis < 3; ++axis) to[3 * i + axis] = row[axis];
    }
  });
  return mapped;
}

Tensor unit_normals(const Tensor& bytes) {
  check_points(bytes, ScalarType::Char, "unit_normals: bytes must be contiguous int8 (N, 3)");
  const int64_t count = bytes.size(0);
  Tensor normals = empty(bytes, {count, 3}, ScalarType::Float);
  const int8_t* from = data<int8_t>(bytes);
  float* to = mutable_data<float>(normals);
  const float* reciprocal = reciprocals().data();
  torch::stable::parallel_for(0, count, 16384, [&](int64_t begin, int64_t end) {
    for (int64_t i = 3 * begin; i < 3 * end; i += 3) {
      const int x = from[i], y = from[i + 1], z = from[i + 2];
      const float scale = reciprocal[x * x + y * y + z * z];
      to[i] = static_cast<float>(x) * scale;
      to[i + 1] = static_cast<float>(y) * scale;
      to[i + 2] = static_cast<float>(z) * scale;
    }
  });
  return normals;
}

std::tuple<Tensor, Tensor> instance_rows(const Tensor& labels, const Tensor& instances) {
  const int64_t count = labels.size(0);
  for (const Tensor* column : {&labels, &instances})
    check(column->dim() == 1 && column->size(0) == count && column->scalar_type() == ScalarType::Long && column->is_contiguous(),
          "instance_rows: labels and instances must be contiguous int64 (N,)");
  const int64_t *label = data<int64_t>(labels), *id = data<int64_t>(instances);
  const Known known = known_ids(label, id, count);
  Tensor found = empty(labels, {static_cast<int64_t>(known.ids.size())}, ScalarType::Long);
  Tensor rows = empty(labels, {count}, ScalarType::Long);
  std::copy(known.labels.begin(), known.labels.end(), mutable_data<int64_t>(found));
  int64_t* row = mutable_data<int64_t>(rows);
  const int64_t span = known.ids.empty() ? 0 : known.ids.back() + 1;
  std::vector<int64_t> place;
  if (span <= kSparse * count) {
    place.assign(span, -1);
    for (size_t i = 0; i < known.ids.size(); ++i) place[known.ids[i]] = static_cast<int64_t>(i);
  }
  for (int64_t i = 0; i < count; ++i) {
    if (label[i] < 0 || id[i] < 0) row[i] = -1;
    else if (span <= kSparse * count) row[i] = place[id[i]];
    else row[i] = std::lower_bound(known.ids.begin(), known.ids.end(), id[i]) - known.ids.begin();
  }
  return {found, rows};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("column_stats", TORCH_BOX(&pc3d::column_stats));
  m.impl("map_points", TORCH_BOX(&pc3d::map_points));
  m.impl("unit_normals", TORCH_BOX(&pc3d::unit_normals));
  m.impl("instance_rows", TORCH_BOX(&pc3d::instance_rows));
}
