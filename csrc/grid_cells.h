// The cubes of a grid that points of segments lie in, of a side, from the lowest coordinates on.
#pragma once

#include "tasks.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace pc3d {
namespace grid {

constexpr int64_t kPoints = 1 << 12;  // of a task
constexpr int64_t kRecent = 64;  // a power of two: pairs of a cube and a segment that are not noted again
constexpr int64_t kLanes = 4;
constexpr int kColumns = 9;  // of three cubes each: those that touch a cube, and itself

// Cells, one after another.
struct Range {
  int64_t first, last;
};

// Cubes with points, by rising key.
struct Cells {
  std::vector<int64_t> keys, starts{0};
  std::vector<int32_t> segments;                  // with points in each, ascending
  std::vector<std::array<Range, kColumns>> near;  // of each cell, those it touches, and itself: columns of three lie side by side
  std::vector<int64_t> own_starts;
  std::vector<int32_t> own;                       // the cells of each segment
};

typedef float Lanes __attribute__((vector_size(16)));

// The lowest value, and how far above it the highest is: NaN where one is not finite.
inline std::pair<float, float> bounds(const float* values, int64_t count) {
  Lanes low = Lanes{} + values[0], high = low, zero{};
  const auto add = [&](Lanes value) {
    low = value < low ? value : low;
    high = value > high ? value : high;
    zero += 0 * value;
  };
  int64_t i = 0;
  for (Lanes value; i + kLanes <= count; i += kLanes) std::memcpy(&value, values + i, sizeof value), add(value);
  for (; i < count; ++i) add(Lanes{} + values[i]);
  for (int k = 1; k < kLanes; ++k) low[0] = std::min(low[0], low[k]), high[0] = std::max(high[0], high[k]), zero[0] += zero[k];
  return {low[0], high[0] - low[0] + zero[0]};
}

template <class T>
void sort_unique(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

// Where points lie: the number of a cube along each axis, of which none is 0, and its key.
class Grid {
 public:
  Grid(const std::string& op, const float* xyz, int64_t count, double side, int64_t num_segments)
      : xyz_(xyz), count_(count), side_(side) {
    for (int axis = 0; axis < 3; ++axis) {
      const auto [low, extent] = bounds(xyz + axis * count, count);
      check(extent / side_ < 1e9f, (op + ": points are not finite, or too far apart for cells of this side").c_str());
      low_[axis] = low;
      size_[axis] = static_cast<int64_t>(extent / side_) + 3;
    }
    for (int axis = 0; axis < 3 && !fits(num_segments); ++axis) close_gaps(axis);
    check(fits(num_segments), (op + ": points are too far apart for cells of this side").c_str());
  }

  // Numbers along an axis of the cubes of points from one on.
  void numbers_of(int axis, int64_t first, int64_t count, int32_t* numbers) const {
    const float *x = xyz_ + axis * count_ + first, low = low_[axis], side = side_;
    for (int64_t i = 0; i < count; ++i) numbers[i] = static_cast<int32_t>((x[i] - low) / side) + 1;
    const std::vector<int32_t>& used = used_[axis];
    if (used.empty()) return;
    for (int64_t i = 0; i < count; ++i)
      numbers[i] = closed_[axis][std::lower_bound(used.begin(), used.end(), numbers[i]) - used.begin()];
  }
  int64_t key(int64_t x, int64_t y, int64_t z) const { return (x * size_[1] + y) * size_[2] + z; }

 private:
  bool fits(int64_t num_segments) const {
    return static_cast<double>(size_[0]) * size_[1] * size_[2] * num_segments < 4e18;
  }

  // Numbers the cubes of an axis anew, with one between those that do not touch: a point far outside costs two.
  void close_gaps(int axis) {
    std::vector<int32_t> used(count_), closed{1};
    numbers_of(axis, 0, count_, used.data());
    sort_unique(used);
    for (size_t k = 1; k < used.size(); ++k) closed.push_back(closed.back() + std::min(used[k] - used[k - 1], 2));
    size_[axis] = closed.back() + 2;
    used_[axis] = std::move(used), closed_[axis] = std::move(closed);
  }

  const float* xyz_;
  int64_t count_;
  float side_, low_[3];
  int64_t size_[3];
  std::vector<int32_t> used_[3], closed_[3];  // numbers of cubes with points, and those after close_gaps; mostly empty
};

inline Cells cells_of(const Grid& grid, const int64_t* segment, int64_t count, int64_t num_segments) {
  std::vector<std::vector<int64_t>> found((count + kPoints - 1) / kPoints);  // key * segments + segment
  run_tasks(static_cast<int64_t>(found.size()), [&](int64_t task) {
    const int64_t first = task * kPoints, points = std::min(kPoints, count - first);
    std::array<int32_t, kPoints> at[3];
    for (int axis = 0; axis < 3; ++axis) grid.numbers_of(axis, first, points, at[axis].data());
    std::array<int64_t, kRecent> recent;
    recent.fill(-1);
    for (int64_t i = 0; i < points; ++i) {
      const int64_t key = grid.key(at[0][i], at[1][i], at[2][i]), pair = key * num_segments + segment[first + i];
      if (std::exchange(recent[key & (kRecent - 1)], pair) != pair) found[task].push_back(pair);  // neighbours mostly share both
    }
    sort_unique(found[task]);
  });
  std::vector<int64_t> pairs;
  for (const auto& part : found) pairs.insert(pairs.end(), part.begin(), part.end());
  sort_unique(pairs);
  Cells out;
  for (const int64_t pair : pairs) {
    if (out.keys.empty() || out.keys.back() != pair / num_segments) {
      out.keys.push_back(pair / num_segments);
      out.starts.push_back(out.starts.back());
    }
    out.segments.push_back(static_cast<int32_t>(pair % num_segments));
    ++out.starts.back();
  }
  return out;
}

inline void find_near(const Grid& grid, Cells& cells) {
  const std::vector<int64_t>& keys = cells.keys;
  cells.near.resize(keys.size());
  for (int column = 0; column < kColumns; ++column) {
    const int64_t step = grid.key(column / 3, column % 3, 0) - grid.key(1, 1, 0);
    size_t first = 0, last = 0;
    for (size_t cell = 0; cell < keys.size(); ++cell) {
      while (first < keys.size() && keys[first] < keys[cell] + step - 1) ++first;
      while (last < keys.size() && keys[last] <= keys[cell] + step + 1) ++last;
      cells.near[cell][column] = {static_cast<int64_t>(first), static_cast<int64_t>(last)};
    }
  }
}

inline void find_own(int64_t num_segments, Cells& cells) {
  std::vector<int64_t>& starts = cells.own_starts;
  starts.resize(num_segments + 2);
  for (const int32_t segment : cells.segments) ++starts[segment + 2];
  for (int64_t s = 0; s < num_segments; ++s) starts[s + 2] += starts[s + 1];
  cells.own.resize(cells.segments.size());
  for (size_t cell = 0; cell < cells.keys.size(); ++cell)
    for (int64_t e = cells.starts[cell]; e < cells.starts[cell + 1]; ++e)
      cells.own[starts[cells.segments[e] + 1]++] = static_cast<int32_t>(cell);
}

// Throws, in the name of an op, for arguments that do not fit, and for points too far apart.
inline Cells find_cells(const std::string& op, const Tensor& xyz, const Tensor& segment, int64_t num_segments, double side) {
  const auto require = [&](bool ok, const char* problem) { check(ok, (op + ": " + problem).c_str()); };
  require(xyz.dim() == 2 && xyz.size(0) == 3 && xyz.is_contiguous() && xyz.scalar_type() == ScalarType::Float,
          "xyz must be float32 (3, N)");
  const int64_t count = xyz.size(1);
  require(segment.dim() == 1 && segment.numel() == count && segment.is_contiguous() &&
              segment.scalar_type() == ScalarType::Long, "segment must be int64 (N,)");
  const int64_t* of = data<int64_t>(segment);
  uint64_t outside = 0;  // the highest bit
  for (int64_t i = 0; i < count; ++i)
    outside |= static_cast<uint64_t>(of[i]) | (static_cast<uint64_t>(num_segments - 1) - static_cast<uint64_t>(of[i]));
  require(side > 0 && num_segments >= 0 && !(outside >> 63), "the side or a segment is out of range");
  Cells cells;
  if (count) {
    const Grid grid(op, data<float>(xyz), count, side, num_segments);
    cells = cells_of(grid, of, count, num_segments);
    find_near(grid, cells);
  }
  find_own(num_segments, cells);
  return cells;
}

}  // namespace grid
}  // namespace pc3d
