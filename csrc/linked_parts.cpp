#include "linked_parts.h"

#include "sparse_rows.h"
#include "tasks.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace pc3d {
namespace {

constexpr int64_t kSets = 4;  // of a task

int64_t find(int64_t* root, int64_t entry) {
  while (root[entry] != entry) entry = root[entry] = root[root[entry]];
  return entry;
}

// Makes the first entry of each part the root of all. ``place`` is -1 before and after: the entry of each node.
void join(const SparseRows& sets, const SparseRows& links, int64_t set, std::vector<int64_t>& place, int64_t* root) {
  const int64_t first = sets.starts[set], last = sets.starts[set + 1];
  for (int64_t e = first; e < last; ++e) {
    const int32_t node = sets.columns[e];
    place[node] = e;
    for (int64_t k = links.starts[node]; k < links.starts[node + 1]; ++k) {
      const int64_t other = place[links.columns[k]];  // those that come later meet this one then
      if (other < 0) continue;
      const int64_t a = find(root, e), b = find(root, other);
      root[std::max(a, b)] = std::min(a, b);
    }
  }
  for (int64_t e = first; e < last; ++e) place[sets.columns[e]] = -1;
}

SparseRows rows_of(const Tensor& starts, const Tensor& columns, int64_t num_columns) {
  return sparse_rows("linked_parts", starts, columns, num_columns, Columns::in_any_order);
}

}  // namespace

Tensor linked_parts_op(const Tensor& starts, const Tensor& members, const Tensor& link_starts, const Tensor& linked) {
  const int64_t nodes = link_starts.numel() - 1, entries = members.numel();
  const SparseRows links = rows_of(link_starts, linked, nodes), sets = rows_of(starts, members, nodes);
  Tensor out = empty(starts, {entries}, ScalarType::Long);
  int64_t* part = mutable_data<int64_t>(out);
  std::iota(part, part + entries, 0);
  run_tasks((sets.count + kSets - 1) / kSets, [&] { return std::vector<int64_t>(nodes, -1); },
            [&](std::vector<int64_t>& place, int64_t task) {
    for (int64_t set = task * kSets; set < std::min(sets.count, (task + 1) * kSets); ++set) join(sets, links, set, place, part);
  });
  int64_t parts = 0;
  for (int64_t e = 0; e < entries; ++e) part[e] = part[e] == e ? parts++ : part[part[e]];  // a root comes first
  return out;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("linked_parts", TORCH_BOX(&pc3d::linked_parts_op)); }
