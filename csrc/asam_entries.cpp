// asam_entries (contract in pc3d/ops/asam_pool.py): rows in a superpoint, in the order of their first points.
#include <algorithm>
#include <vector>

#include "asam_pool.h"
#include "by_segment.h"

namespace pc3d {
namespace {

struct Entries {
  int64_t *row, *points, *segment;

  void put(int64_t at, int64_t own_row, int64_t own_segment) const {
    row[at] = own_row;
    points[at] = 0;
    segment[at] = own_segment;
  }
  void move(int64_t from, int64_t last, int64_t to) const {
    for (int64_t* column : {row, points, segment}) std::copy(column + from, column + last, column + to);
  }
};

// Entries of segments [first, last) from place start[first] on, their ends in ends[s + 1]; returns the place after the last.
int64_t enter(const int64_t* rows, const int64_t* start, int64_t first, int64_t last, int64_t num_rows, const Entries& out,
              int64_t* ends) {
  std::vector<int64_t> entry_of(num_rows, -1);
  int64_t next = start[first];
  for (int64_t s = first; s < last; ++s) {
    const int64_t begin = next, end = start[s + 1];
    for (int64_t i = start[s]; i < end; ++i) {
      int64_t& entry = entry_of[rows[i]];
      if (entry < begin) {  // its last entry, if any, is of an earlier segment
        entry = next++;
        out.put(entry, rows[i], s);
      }
      ++out.points[entry];
    }
    ends[s + 1] = next;
  }
  return next;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> asam_entries(const Tensor& point_to_row_in, const Tensor& index_in,
                                                                        int64_t num_rows, int64_t num_segments) {
  const Tensor point_to_row = torch::stable::contiguous(point_to_row_in), index = torch::stable::contiguous(index_in);
  check(point_to_row.scalar_type() == ScalarType::Long && index.scalar_type() == ScalarType::Long &&
            point_to_row.numel() == index.numel(),
        "asam_entries: point_to_row and index must be int64 (N,)");
  const int64_t count = index.numel();
  const auto make = [&](int64_t size) { return empty(index, {size}, ScalarType::Long); };
  const Tensor row = make(count), points = make(count), segment = make(count), offsets = make(num_segments + 1),
               tiles = make(num_segments + 1), sizes = make(num_segments);
  const Entries entries{mutable_data<int64_t>(row), mutable_data<int64_t>(points), mutable_data<int64_t>(segment)};
  auto *offset = mutable_data<int64_t>(offsets), *tile = mutable_data<int64_t>(tiles), *size = mutable_data<int64_t>(sizes);

  std::vector<int64_t> rows(count), start(num_segments + 1);
  const int64_t* row_of = data<int64_t>(point_to_row);
  sort_by_segment(data<int64_t>(index), count, num_segments, [=](int64_t n) { return row_of[n]; }, start.data(), rows.data());

  // Each range of segments leaves its entries where its points lie; then they move together.
  const int64_t ranges = row_ranges(count, num_segments);
  std::vector<int64_t> first(ranges + 1, num_segments), last(ranges);
  for (int64_t r = 0; r < ranges; ++r)
    first[r] = std::lower_bound(start.begin(), start.end() - 1, r * count / ranges) - start.begin();
  run_tasks(ranges, [&](int64_t r) {
    last[r] = enter(rows.data(), start.data(), first[r], first[r + 1], num_rows, entries, offset);
  });
  int64_t used = offset[0] = tile[0] = 0;
  for (int64_t r = 0; r < ranges; ++r) {
    const int64_t begin = start[first[r]], gap = begin - used;
    if (gap) entries.move(begin, last[r], used);
    for (int64_t s = first[r]; s < first[r + 1]; ++s) offset[s + 1] -= gap;
    used += last[r] - begin;
  }
  for (int64_t s = 0; s < num_segments; ++s) {
    size[s] = start[s + 1] - start[s];
    tile[s + 1] = tile[s] + (offset[s + 1] - offset[s] + asam::tile_rows - 1) / asam::tile_rows;
  }
  for (int64_t i = used; i < count; ++i) entries.put(i, num_rows, 0);
  return {row, points, segment, offsets, tiles, sizes};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("asam_entries", TORCH_BOX(&pc3d::asam_entries)); }
