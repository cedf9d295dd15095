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

constexpr int64_t kSparse = 8, kCells = 4096;  // of a table: so many for each point, and besides

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

// The instances that points belong to, numbered by rising (label or 0, id): counted in a table where that is small, else sorted.
class Instances {
 public:
  Instances(const int64_t* label, const int64_t* id, int64_t count, int64_t num_labels, bool by_label)
      : label_(label), id_(id), count_(count), num_labels_(num_labels), by_label_(by_label) {
    int64_t most_id = -1, most_label = 0;
    for (int64_t i = 0; i < count; ++i)
      if (known(i)) {
        most_id = std::max(most_id, id[i]);
        most_label = std::max(most_label, part(i));
      }
    const int64_t cells = kSparse * count + kCells;
    if (most_id < cells / (most_label + 1)) tabulate(most_id + 1, most_label + 1);
    else sort();
  }

  int64_t size() const { return static_cast<int64_t>(first_.size()); }
  int64_t first_point(int64_t row) const { return first_[row]; }

  // The row of every point's instance, -1 for none, and how many points each has.
  void number(int64_t* row, int64_t* sizes) const {
    for (int64_t i = 0; i < count_; ++i) {
      row[i] = !known(i) ? -1 : table_.empty() ? find(i) : table_[part(i) * width_ + id_[i]];
      if (row[i] >= 0) ++sizes[row[i]];
    }
  }

 private:
  using Key = std::pair<int64_t, int64_t>;

  bool known(int64_t i) const { return id_[i] >= 0 && label_[i] >= 0 && label_[i] < num_labels_; }
  int64_t part(int64_t i) const { return by_label_ ? label_[i] : 0; }
  Key key(int64_t i) const { return {part(i), id_[i]}; }
  int64_t find(int64_t i) const { return std::lower_bound(keys_.begin(), keys_.end(), key(i)) - keys_.begin(); }

  void tabulate(int64_t width, int64_t labels) {
    width_ = width;
    table_.assign(width * labels, -1);
    for (int64_t i = count_ - 1; i >= 0; --i)
      if (known(i)) table_[part(i) * width_ + id_[i]] = i;  // what is written last stays: the first point
    for (int64_t& cell : table_)
      if (cell >= 0) {
        first_.push_back(cell);
        cell = size() - 1;
      }
  }
  void sort() {
    std::vector<std::pair<Key, int64_t>> found;
    for (int64_t i = 0; i < count_; ++i)
      if (known(i) && (found.empty() || found.back().first != key(i))) found.emplace_back(key(i), i);
    std::sort(found.begin(), found.end());
    for (const auto& [next, point] : found)
      if (keys_.empty() || keys_.back() != next) {
        keys_.push_back(next);
        first_.push_back(point);
      }
  }

  const int64_t *label_, *id_, count_, num_labels_;
  const bool by_label_;
  int64_t width_ = 0;
  std::vector<int64_t> table_, first_;
  std::vector<Key> keys_;
};

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

std::tuple<Tensor, Tensor, Tensor> instance_rows(const Tensor& labels, const Tensor& instances, int64_t num_labels, bool by_label) {
  const int64_t count = labels.size(0);
  for (const Tensor* column : {&labels, &instances})
    check(column->dim() == 1 && column->size(0) == count && column->scalar_type() == ScalarType::Long && column->is_contiguous(),
          "instance_rows: labels and instances must be contiguous int64 (N,)");
  const int64_t* label = data<int64_t>(labels);
  const Instances found(label, data<int64_t>(instances), count, num_labels, by_label);
  Tensor classes = empty(labels, {found.size()}, ScalarType::Long), sizes = zeros(labels, {found.size()}, ScalarType::Long);
  Tensor rows = empty(labels, {count}, ScalarType::Long);
  for (int64_t row = 0; row < found.size(); ++row) mutable_data<int64_t>(classes)[row] = label[found.first_point(row)];
  found.number(mutable_data<int64_t>(rows), mutable_data<int64_t>(sizes));
  return {classes, sizes, rows};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) {
  m.impl("column_stats", TORCH_BOX(&pc3d::column_stats));
  m.impl("map_points", TORCH_BOX(&pc3d::map_points));
  m.impl("unit_normals", TORCH_BOX(&pc3d::unit_normals));
  m.impl("instance_rows", TORCH_BOX(&pc3d::instance_rows));
}
