// A stable counting sort of rows by segment, on the threads of torch; the order does not depend on their number.
#pragma once

#include <vector>

#include "tasks.h"

namespace pc3d {

// Rows are counted in one range for each thread, unless that many tables of segments would be more work than the rows are.
inline int64_t row_ranges(int64_t rows, int64_t num_segments) {
  const int64_t most = rows / std::max<int64_t>(4096, 4 * num_segments);
  return std::max<int64_t>(1, std::min<int64_t>(most, torch::stable::get_num_threads()));
}

// start (S + 1): where each segment starts in out; out (rows): value(n) of rows n by segment, in rising order of n within one.
template <class Value>
void sort_by_segment(const int64_t* segment_of, int64_t rows, int64_t num_segments, const Value& value, int64_t* start,
                     int64_t* out) {
  const int64_t ranges = row_ranges(rows, num_segments);
  std::vector<int64_t> next(ranges * num_segments);  // of a range in a segment: number of rows, then place of the next one
  const auto each_row = [&](const auto& visit) {
    run_tasks(ranges, [&](int64_t range) {
      int64_t* own = next.data() + range * num_segments;
      const int64_t end = (range + 1) * rows / ranges;
      for (int64_t n = range * rows / ranges; n < end; ++n) visit(own[segment_of[n]], n);
    });
  };
  each_row([](int64_t& own, int64_t) { ++own; });
  int64_t at = 0;
  for (int64_t s = 0; s < num_segments; ++s) {
    start[s] = at;
    for (int64_t range = 0; range < ranges; ++range) {
      int64_t& own = next[range * num_segments + s];
      const int64_t count = own;
      own = at;
      at += count;
    }
  }
  start[num_segments] = at;
  each_row([=](int64_t& own, int64_t n) { out[own++] = value(n); });
}

}  // namespace pc3d
