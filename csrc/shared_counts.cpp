#include "shared_counts.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "tasks.h"

namespace pc3d {
namespace {

struct Cell {
  int32_t number;
  int32_t points;
};

// For each segment the numbers its points have and how many have each: cells[starts[s]] to cells[starts[s + 1]].
struct Cells {
  std::vector<int64_t> starts;
  std::vector<Cell> cells;
};

Cells count_cells(const int64_t* segment, const int64_t* number, int64_t num_points, int64_t num_segments,
                  int64_t num_numbers) {
  std::vector<int64_t> place(num_segments + 1, 0);
  for (int64_t i = 0; i < num_points; ++i) ++place[segment[i]];
  int64_t sum = 0;
  for (int64_t& entry : place) sum += std::exchange(entry, sum);
  std::vector<int32_t> by_segment(num_points);
  for (int64_t i = 0; i < num_points; ++i) by_segment[place[segment[i]]++] = static_cast<int32_t>(number[i]);

  Cells result;
  result.starts.reserve(num_segments + 1);
  std::vector<int32_t> where(num_numbers, -1);  // cell of a number in the segment at hand
  int64_t point = 0;
  for (int64_t s = 0; s < num_segments; ++s) {
    const int64_t first = static_cast<int64_t>(result.cells.size());
    result.starts.push_back(first);
    for (; point < place[s]; ++point) {
      int32_t& cell = where[by_segment[point]];
      if (cell < 0) {
        cell = static_cast<int32_t>(result.cells.size() - first);
        result.cells.push_back({by_segment[point], 0});
      }
      ++result.cells[first + cell].points;
    }
    for (size_t cell = first; cell < result.cells.size(); ++cell) where[result.cells[cell].number] = -1;
  }
  result.starts.push_back(static_cast<int64_t>(result.cells.size()));
  return result;
}

// Adds up the cells of the segments whose bit is set.
void count_row(const uint8_t* bits, int64_t num_segments, const Cells& cells, int64_t* counts) {
  const int64_t num_bytes = (num_segments + 7) / 8;
  for (int64_t begin = 0; begin < num_bytes; begin += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bits + begin, std::min<int64_t>(8, num_bytes - begin));
    for (; word; word &= word - 1) {
      const int64_t s = 8 * begin + __builtin_ctzll(word);
      if (s >= num_segments) return;
      for (int64_t c = cells.starts[s]; c < cells.starts[s + 1]; ++c) counts[cells.cells[c].number] += cells.cells[c].points;
    }
  }
}

}  // namespace

Tensor shared_counts(const Tensor& bits_in, const Tensor& segment_in, const Tensor& number_in, int64_t num_segments,
                     int64_t num_numbers) {
  const Tensor bits = torch::stable::contiguous(bits_in), segment = torch::stable::contiguous(segment_in);
  const Tensor number = torch::stable::contiguous(number_in);
  const int64_t width = (num_segments + 7) / 8;
  check(bits.dim() == 2 && bits.size(1) == width && bits.scalar_type() == ScalarType::Byte,
        "shared_counts: bits must be uint8 (I, ceil(S/8))");
  check(segment.dim() == 1 && segment.scalar_type() == ScalarType::Long, "shared_counts: segment must be int64 (N,)");
  check(number.dim() == 1 && number.size(0) == segment.size(0) && number.scalar_type() == ScalarType::Long,
        "shared_counts: number must be int64 (N,)");
  check(segment.size(0) <= INT32_MAX && num_numbers <= INT32_MAX, "shared_counts: more than 2^31 points");
  const Cells cells = count_cells(data<int64_t>(segment), data<int64_t>(number), segment.size(0), num_segments, num_numbers);
  Tensor counts = zeros(segment, {bits.size(0), num_numbers}, ScalarType::Long);
  const uint8_t* row = data<uint8_t>(bits);
  int64_t* count = mutable_data<int64_t>(counts);
  run_tasks(bits.size(0), [&](int64_t i) { count_row(row + i * width, num_segments, cells, count + i * num_numbers); });
  return counts;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("shared_counts", TORCH_BOX(&pc3d::shared_counts)); }
