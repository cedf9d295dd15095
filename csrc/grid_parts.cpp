#include "grid_parts.h"

#include "grid_cells.h"
#include "sparse_rows.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace pc3d {
namespace {

using namespace grid;

constexpr int64_t kSets = 4;  // of a task

int64_t find(int64_t* root, int64_t entry) {
  while (root[entry] != entry) entry = root[entry] = root[root[entry]];
  return entry;
}

void join(int64_t* root, int64_t one, int64_t other) {
  one = find(root, one), other = find(root, other);
  root[std::max(one, other)] = std::min(one, other);
}

// Makes the first entry of each part the root of all. ``place`` is -1 before and after: an entry with points in each cell.
void join(const SparseRows& sets, const Cells& cells, int64_t set, std::vector<int64_t>& place, int64_t* root) {
  const int64_t first = sets.starts[set], last = sets.starts[set + 1];
  const auto each_cell = [&](int64_t entry, const auto& visit) {
    const int32_t segment = sets.columns[entry];
    for (int64_t k = cells.own_starts[segment]; k < cells.own_starts[segment + 1]; ++k) visit(cells.own[k]);
  };
  for (int64_t e = first; e < last; ++e)
    each_cell(e, [&](int32_t cell) {
      if (place[cell] >= 0) return join(root, e, place[cell]);
      place[cell] = e;
      for (const Range& range : cells.near[cell])
        for (int64_t other = range.first; other < range.last; ++other)
          if (place[other] >= 0) join(root, e, place[other]);  // those that come later meet this one then
    });
  for (int64_t e = first; e < last; ++e) each_cell(e, [&](int32_t cell) { place[cell] = -1; });
}

}  // namespace

Tensor grid_parts_op(const Tensor& xyz, const Tensor& segment, const Tensor& starts, const Tensor& members,
                     int64_t num_segments, double side) {
  const SparseRows sets = sparse_rows("grid_parts", starts, members, num_segments, Columns::in_any_order);
  const Cells cells = find_cells("grid_parts", xyz, segment, num_segments, side);
  Tensor out = empty(starts, {members.numel()}, ScalarType::Long);
  int64_t* part = mutable_data<int64_t>(out);
  std::iota(part, part + members.numel(), 0);
  run_tasks((sets.count + kSets - 1) / kSets, [&] { return std::vector<int64_t>(cells.keys.size(), -1); },
            [&](std::vector<int64_t>& place, int64_t task) {
    for (int64_t set = task * kSets; set < std::min(sets.count, (task + 1) * kSets); ++set) join(sets, cells, set, place, part);
  });
  int64_t parts = 0;
  for (int64_t e = 0; e < members.numel(); ++e) part[e] = part[e] == e ? parts++ : part[part[e]];  // a root comes first
  return out;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("grid_parts", TORCH_BOX(&pc3d::grid_parts_op)); }
