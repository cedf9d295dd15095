#include "grid_links.h"

#include "number_set.h"
#include "tasks.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

namespace pc3d {
namespace {

using namespace grid_links;

constexpr int64_t kPoints = 1 << 12, kCells = 64, kSegments = 64;  // of a task
constexpr int64_t kRecent = 64;  // pairs of a cube and a segment that are not noted again
constexpr int64_t kLanes = 8;
constexpr int kColumns = 9;  // of three cubes each: those that touch a cube, and itself

// The lowest value, and how far above it the highest is: NaN where one is not finite.
std::pair<float, float> bounds(const float* values, int64_t count) {
  float low[kLanes], high[kLanes], zero[kLanes] = {};
  std::fill_n(low, kLanes, std::numeric_limits<float>::infinity());
  std::fill_n(high, kLanes, -std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < count; i += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) {
      const float value = values[std::min(i + k, count - 1)];
      low[k] = value < low[k] ? value : low[k];
      high[k] = value > high[k] ? value : high[k];
      zero[k] += 0 * value;
    }
  const float least = *std::min_element(low, low + kLanes);
  return {least, *std::max_element(high, high + kLanes) - least + std::accumulate(zero, zero + kLanes, 0.0f)};
}

template <class T>
void sort_unique(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

// Where points lie: the number of a cube along each axis, of which none is 0, and its key.
class Grid {
 public:
  Grid(const float* xyz, int64_t count, double side, int64_t num_segments) : xyz_(xyz), count_(count), side_(side) {
    for (int axis = 0; axis < 3; ++axis) {
      const auto [low, extent] = bounds(xyz + axis * count, count);
      check(extent / side_ < 1e9f, "grid_links: points are not finite, or too far apart for cells of this side");
      low_[axis] = low;
      size_[axis] = static_cast<int64_t>(extent / side_) + 3;
    }
    for (int axis = 0; axis < 3 && !fits(num_segments); ++axis) close_gaps(axis);
    check(fits(num_segments), "grid_links: points are too far apart for cells of this side");
  }

  // Keys of at most kPoints points from one on.
  void keys_of(int64_t first, int64_t count, int64_t* keys) const {
    std::array<int32_t, kPoints> numbers;
    std::fill_n(keys, count, 0);
    for (int axis = 0; axis < 3; ++axis) {
      numbers_of(axis, first, count, numbers.data());
      for (int64_t i = 0; i < count; ++i) keys[i] = keys[i] * size_[axis] + numbers[i];
    }
  }
  int64_t key(int64_t x, int64_t y, int64_t z) const { return (x * size_[1] + y) * size_[2] + z; }

 private:
  // Numbers of cubes along an axis.
  void numbers_of(int axis, int64_t first, int64_t count, int32_t* numbers) const {
    const float *x = xyz_ + axis * count_ + first, low = low_[axis], side = side_;
    for (int64_t i = 0; i < count; ++i) numbers[i] = static_cast<int32_t>((x[i] - low) / side) + 1;
    const std::vector<int32_t>& used = used_[axis];
    if (used.empty()) return;
    for (int64_t i = 0; i < count; ++i)
      numbers[i] = closed_[axis][std::lower_bound(used.begin(), used.end(), numbers[i]) - used.begin()];
  }

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

Cells find_cells(const Grid& grid, const int64_t* segment, int64_t count, int64_t num_segments) {
  std::vector<std::vector<int64_t>> found((count + kPoints - 1) / kPoints);  // key * segments + segment
  run_tasks(static_cast<int64_t>(found.size()), [&](int64_t task) {
    const int64_t first = task * kPoints, points = std::min(kPoints, count - first);
    std::array<int64_t, kPoints> keys;
    grid.keys_of(first, points, keys.data());
    std::array<int64_t, kRecent> recent;
    recent.fill(-1);
    for (int64_t i = 0; i < points; ++i) {
      const int64_t pair = keys[i] * num_segments + segment[first + i];
      if (std::exchange(recent[keys[i] % kRecent], pair) != pair) found[task].push_back(pair);  // neighbours mostly share both
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
      out.starts.push_back(static_cast<int64_t>(out.segments.size()));
    }
    out.segments.push_back(static_cast<int32_t>(pair % num_segments));
  }
  out.starts.push_back(static_cast<int64_t>(out.segments.size()));
  return out;
}

// Of each cell, the entries of the cells it touches: columns of three lie side by side.
std::vector<std::array<Range, kColumns>> find_near(const Cells& cells, const Grid& grid) {
  std::vector<std::array<Range, kColumns>> near(cells.keys.size());
  for (int column = 0; column < kColumns; ++column) {
    const int64_t step = grid.key(column / 3, column % 3, 0) - grid.key(1, 1, 0);
    size_t first = 0, last = 0;
    for (size_t cell = 0; cell < cells.keys.size(); ++cell) {
      while (first < cells.keys.size() && cells.keys[first] < cells.keys[cell] + step - 1) ++first;
      while (last < cells.keys.size() && cells.keys[last] <= cells.keys[cell] + step + 1) ++last;
      near[cell][column] = {cells.starts[first], cells.starts[last]};
    }
  }
  return near;
}

// The cells of each segment: those of s between starts[s] and starts[s + 1].
std::pair<std::vector<int64_t>, std::vector<int32_t>> by_segment(const Cells& cells, int64_t num_segments) {
  std::vector<int64_t> starts(num_segments + 2);
  for (const int32_t segment : cells.segments) ++starts[segment + 2];
  for (int64_t s = 0; s < num_segments; ++s) starts[s + 2] += starts[s + 1];
  std::vector<int32_t> own(cells.segments.size());
  for (size_t cell = 0; cell < cells.keys.size(); ++cell)
    for (int64_t e = cells.starts[cell]; e < cells.starts[cell + 1]; ++e)
      own[starts[cells.segments[e] + 1]++] = static_cast<int32_t>(cell);
  return {std::move(starts), std::move(own)};
}

// The segments in the cells that each cell touches: those of cell c are in part c / kCells, up to its end from the one before.
struct Near {
  std::vector<std::vector<NumberSet::Word>> parts;
  std::vector<int64_t> ends;

  const NumberSet::Word* begin(int64_t cell) const { return parts[cell / kCells].data() + (cell % kCells ? ends[cell - 1] : 0); }
  const NumberSet::Word* end(int64_t cell) const { return parts[cell / kCells].data() + ends[cell]; }
};

Near find_near_segments(const Cells& cells, const Grid& grid, int64_t num_segments) {
  const auto near = find_near(cells, grid);
  const int64_t count = static_cast<int64_t>(cells.keys.size());
  Near out{std::vector<std::vector<NumberSet::Word>>((count + kCells - 1) / kCells), std::vector<int64_t>(count)};
  const auto none = [&] { return NumberSet(num_segments); };
  run_tasks(static_cast<int64_t>(out.parts.size()), none, [&](NumberSet& met, int64_t task) {
    for (int64_t cell = task * kCells; cell < std::min(count, (task + 1) * kCells); ++cell) {
      for (const Range& range : near[cell])
        for (int64_t e = range.first; e < range.last; ++e) met.add(cells.segments[e]);
      met.take_words([&](NumberSet::Word word) { out.parts[task].push_back(word); });
      out.ends[cell] = static_cast<int64_t>(out.parts[task].size());
    }
  });
  return out;
}

}  // namespace

std::tuple<Tensor, Tensor> grid_links_op(const Tensor& xyz, const Tensor& segment, int64_t num_segments, double side) {
  check(xyz.dim() == 2 && xyz.size(0) == 3 && xyz.is_contiguous() && xyz.scalar_type() == ScalarType::Float,
        "grid_links: xyz must be float32 (3, N)");
  const int64_t count = xyz.size(1);
  check(segment.dim() == 1 && segment.numel() == count && segment.is_contiguous() && segment.scalar_type() == ScalarType::Long,
        "grid_links: segment must be int64 (N,)");
  const int64_t* of = data<int64_t>(segment);
  check(side > 0 && num_segments >= 0 && std::all_of(of, of + count, [=](int64_t s) { return s >= 0 && s < num_segments; }),
        "grid_links: the side or a segment is out of range");
  Tensor starts = zeros(segment, {num_segments + 1}, ScalarType::Long);
  if (!count) return {starts, empty(segment, {0}, ScalarType::Int)};
  const Grid grid(data<float>(xyz), count, side, num_segments);
  const Cells cells = find_cells(grid, of, count, num_segments);
  const Near near = find_near_segments(cells, grid, num_segments);
  const auto [own_starts, own] = by_segment(cells, num_segments);

  std::vector<std::vector<int32_t>> linked((num_segments + kSegments - 1) / kSegments);
  int64_t* end = mutable_data<int64_t>(starts) + 1;
  const auto none = [&] { return NumberSet(num_segments); };
  run_tasks(static_cast<int64_t>(linked.size()), none, [&, &own_starts = own_starts, &own = own](NumberSet& met, int64_t task) {
    for (int64_t s = task * kSegments; s < std::min(num_segments, (task + 1) * kSegments); ++s) {
      for (int64_t k = own_starts[s]; k < own_starts[s + 1]; ++k)
        for (const NumberSet::Word* word = near.begin(own[k]); word < near.end(own[k]); ++word) met.add(*word);
      met.take([&](int32_t segment) { linked[task].push_back(segment); });
      end[s] = static_cast<int64_t>(linked[task].size());  // in the task
    }
  });
  int64_t before = 0;
  for (int64_t s = 0; s < num_segments; ++s) {
    end[s] += before;
    if (s % kSegments == kSegments - 1) before = end[s];
  }
  Tensor out = empty(segment, {num_segments ? end[num_segments - 1] : 0}, ScalarType::Int);
  int32_t* to = mutable_data<int32_t>(out);
  for (const auto& part : linked) to = std::copy(part.begin(), part.end(), to);
  return {starts, out};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("grid_links", TORCH_BOX(&pc3d::grid_links_op)); }
