#include "scan_layout.h"

#include "tasks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace pc3d {
namespace {

constexpr int64_t kPoints = 1 << 14, kParts = 1 << 9;  // of a task
constexpr int kBits = 10, kCells = 1 << kBits;         // of a cube's number along an axis; and of a digit to sort by
constexpr int kAbove = 32;                             // bits of a key below are a point's number, above its cube's or segment's
constexpr int64_t kPoint = (int64_t{1} << kAbove) - 1;
constexpr float kFar = std::numeric_limits<float>::infinity();

// visit(i) for every i < count.
template <class F>
void each(int64_t count, int64_t of_task, const F& visit) {
  run_tasks((count + of_task - 1) / of_task, [&](int64_t task) {
    for (int64_t i = task * of_task; i < std::min(count, (task + 1) * of_task); ++i) visit(i);
  });
}

// The lowest and highest coordinates of points, and a NaN for each axis with one that is not finite.
struct Bounds {
  void add(float x, float y, float z) {
    const float point[3] = {x, y, z};
    for (int axis = 0; axis < 3; ++axis) {
      low[axis] = point[axis] < low[axis] ? point[axis] : low[axis];
      high[axis] = point[axis] > high[axis] ? point[axis] : high[axis];
      zero[axis] += 0 * point[axis];
    }
  }
  float low[3] = {kFar, kFar, kFar}, high[3] = {-kFar, -kFar, -kFar}, zero[3] = {};
};

class Curve {
 public:
  Curve(const float* xyz, int64_t count) : xyz_(xyz) {
    Bounds bounds;  // in registers
    for (int64_t i = 0; i < count; ++i) bounds.add(xyz[3 * i], xyz[3 * i + 1], xyz[3 * i + 2]);
    float extent = 0, finite = 0;
    for (int axis = 0; axis < 3; ++axis) {
      low_[axis] = bounds.low[axis];
      extent = std::max(extent, bounds.high[axis] - bounds.low[axis]);
      finite += bounds.zero[axis];
    }
    check(std::isfinite(extent + finite), "scan_layout: points are not finite, or too far apart");
    scale_ = static_cast<float>((kCells - 1) / std::max(static_cast<double>(extent), 1e-9));
    for (int cell = 0; cell < kCells; ++cell)
      for (int bit = 0; bit < kBits; ++bit) apart_[cell] |= (cell >> bit & 1) << 3 * bit;
  }

  int64_t cube(int64_t point) const {
    int32_t cube = 0;
    for (int axis = 0; axis < 3; ++axis)
      cube |= apart_[static_cast<int>((xyz_[3 * point + axis] - low_[axis]) * scale_)] << axis;
    return cube;
  }

 private:
  const float* xyz_;
  float low_[3], scale_;
  int32_t apart_[kCells] = {};  // the bits of a number, two zeros between them
};

// Keys by a digit, those of the same in their order.
void sort_by_digit(const int64_t* from, int64_t count, int shift, int64_t* to) {
  int64_t next[kCells] = {}, sum = 0;
  for (int64_t i = 0; i < count; ++i) ++next[from[i] >> shift & (kCells - 1)];
  for (int64_t& start : next) sum += std::exchange(start, sum);
  for (int64_t i = 0; i < count; ++i) to[next[from[i] >> shift & (kCells - 1)]++] = from[i];
}

// The order and the sizes of segments; returns the segments as they come. other (N,) holds what comes in between.
std::vector<int64_t> sort(const Curve& curve, const int64_t* segment, int64_t count, int64_t* other, int64_t* order,
                          int64_t* size) {
  each(count, kPoints, [&](int64_t i) { other[i] = curve.cube(i) << kAbove | i; });
  sort_by_digit(other, count, kAbove, order);
  sort_by_digit(order, count, kAbove + kBits, other);
  sort_by_digit(other, count, kAbove + 2 * kBits, order);
  std::vector<int64_t> sequence;
  int64_t segments = 0, sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t point = order[i] & kPoint, s = segment[point];
    if (!size[s]++) sequence.push_back(s);
    segments = std::max(segments, s + 1);
    other[i] = s << kAbove | point;
  }
  std::vector<int64_t> next(segments);
  for (const int64_t s : sequence) next[s] = std::exchange(sum, sum + size[s]);
  for (int64_t i = 0; i < count; ++i) order[next[other[i] >> kAbove]++] = other[i] & kPoint;
  return sequence;
}

// Starts and owners of parts of segments, of at most ``most`` points.
std::pair<Tensor, Tensor> cut(const std::vector<int64_t>& sequence, const Tensor& sizes, int64_t most) {
  const int64_t* size = data<int64_t>(sizes);
  int64_t count = 0, begin = 0;
  for (const int64_t s : sequence) count += (size[s] + most - 1) / most;
  Tensor starts = zeros(sizes, {count + 1}, ScalarType::Long), owners = empty(sizes, {count}, ScalarType::Long);
  int64_t *start = mutable_data<int64_t>(starts), *owner = mutable_data<int64_t>(owners);
  for (const int64_t s : sequence) {
    const int64_t parts = (size[s] + most - 1) / most;
    for (int64_t part = 0; part < parts; ++part) *start++ = begin + part * size[s] / parts, *owner++ = s;
    *start = begin += size[s];
  }
  return {starts, owners};
}

// The box of the points of a block, its numbers a stride apart: all are in it whatever the centre is rounded to.
void bound(const float* x, const float* y, const float* z, int64_t begin, int64_t end, int64_t stride, float* box) {
  Bounds bounds;
  for (int64_t i = begin; i < end; ++i) bounds.add(x[i], y[i], z[i]);
  for (int axis = 0; axis < 3; ++axis) {
    const float low = bounds.low[axis], high = bounds.high[axis], center = (low + high) / 2;
    box[axis * stride] = center;
    box[(3 + axis) * stride] = std::max(high - center, center - low);
  }
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> scan_layout_op(
    const Tensor& xyz, const Tensor& segment, int64_t block, int64_t piece) {
  const int64_t count = xyz.dim() ? xyz.size(0) : 0;
  check(xyz.dim() == 2 && xyz.size(1) == 3 && xyz.is_contiguous() && xyz.scalar_type() == ScalarType::Float && count > 0,
        "scan_layout: xyz must be float32 (N, 3), not empty");
  check(segment.dim() == 1 && segment.numel() == count && segment.is_contiguous() && segment.scalar_type() == ScalarType::Long,
        "scan_layout: segment must be int64 (N,)");
  const int64_t* of = data<int64_t>(segment);
  int64_t last = 0, bits = 0;
  for (int64_t i = 0; i < count; ++i) last = std::max(last, of[i]), bits |= of[i];
  check(bits >= 0 && last <= INT32_MAX && count <= INT32_MAX && block > 0 && piece > 0,
        "scan_layout: a segment, or the size of blocks or pieces, is out of range");
  Tensor order = empty(segment, {count}, ScalarType::Long), point_to_piece = empty(segment, {count}, ScalarType::Long);
  Tensor sizes = zeros(segment, {last + 1}, ScalarType::Long), piece_of_point = empty(segment, {count}, ScalarType::Int);
  Tensor points = empty(xyz, {3, count}, ScalarType::Float);
  int64_t *point = mutable_data<int64_t>(order), *to_piece = mutable_data<int64_t>(point_to_piece);

  const auto sequence = sort(Curve(data<float>(xyz), count), of, count, to_piece, point, mutable_data<int64_t>(sizes));
  const auto [block_starts, block_owners] = cut(sequence, sizes, block);
  const auto [piece_starts, piece_owners] = cut(sequence, sizes, piece);

  const int64_t num_blocks = block_owners.numel(), *block_start = data<int64_t>(block_starts);
  const int64_t* piece_start = data<int64_t>(piece_starts);
  const float* from = data<float>(xyz);
  float* to = mutable_data<float>(points);
  int32_t* of_point = mutable_data<int32_t>(piece_of_point);
  each(piece_owners.numel(), kParts, [&](int64_t k) {
    for (int64_t i = piece_start[k]; i < piece_start[k + 1]; ++i) {
      for (int axis = 0; axis < 3; ++axis) to[axis * count + i] = from[3 * point[i] + axis];
      of_point[i] = static_cast<int32_t>(k);
      to_piece[point[i]] = k;
    }
  });
  Tensor boxes = empty(xyz, {6, num_blocks}, ScalarType::Float);
  float* box = mutable_data<float>(boxes);
  each(num_blocks, kParts, [&](int64_t b) {
    bound(to, to + count, to + 2 * count, block_start[b], block_start[b + 1], num_blocks, box + b);
  });
  return {order, points, sizes, block_starts, block_owners, boxes, piece_starts, piece_owners, piece_of_point, point_to_piece};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("scan_layout", TORCH_BOX(&pc3d::scan_layout_op)); }
