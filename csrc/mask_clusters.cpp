#include "mask_clusters.h"

#include "tasks.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace pc3d {
namespace {

using namespace mask_clusters;

constexpr int64_t kRows = 64;  // nodes of a task

int32_t common_plain(const uint64_t* a, const uint64_t* b, int64_t words) {
  int32_t bits = 0;
  for (int64_t w = 0; w < words; ++w) bits += __builtin_popcountll(a[w] & b[w]);
  return bits;
}

#if defined(__x86_64__)
__attribute__((target("popcnt"))) int32_t common_popcnt(const uint64_t* a, const uint64_t* b, int64_t words) {
  int32_t bits = 0;
  for (int64_t w = 0; w < words; ++w) bits += __builtin_popcountll(a[w] & b[w]);
  return bits;
}
#endif

using Common = int32_t (*)(const uint64_t*, const uint64_t*, int64_t);

Common best_common() {
#if defined(__x86_64__)
  if (best_isa() >= Isa::avx2) return common_popcnt;
#endif
  return common_plain;
}

// Nodes that each holder holds, ascending.
struct Held {
  std::vector<int64_t> starts;
  std::vector<int32_t> nodes;
};

Held held_by(const Nodes& nodes, int64_t num_holders) {
  Held out{std::vector<int64_t>(num_holders + 1), std::vector<int32_t>(nodes.holders.size())};
  for (const int32_t holder : nodes.holders) ++out.starts[holder];
  int64_t sum = 0;
  for (int64_t& start : out.starts) sum += std::exchange(start, sum);
  std::vector<int64_t> place(out.starts);
  for (int64_t node = 0; node < nodes.count(); ++node)
    for (int64_t e = nodes.starts[node]; e < nodes.starts[node + 1]; ++e)
      out.nodes[place[nodes.holders[e]]++] = static_cast<int32_t>(node);
  return out;
}

// All pairs of nodes with a supporter.
std::vector<std::vector<Pair>> find_pairs(const Nodes& nodes, int64_t num_holders) {
  const Held held = held_by(nodes, num_holders);
  const Common common = best_common();
  struct Scratch {
    std::vector<int32_t> supporters, touched;
  };
  std::vector<std::vector<Pair>> out((nodes.count() + kRows - 1) / kRows);
  const auto scratch = [&] { return Scratch{std::vector<int32_t>(nodes.count()), {}}; };
  run_tasks(static_cast<int64_t>(out.size()), scratch, [&](Scratch& s, int64_t task) {
    for (int64_t i = task * kRows; i < std::min((task + 1) * kRows, nodes.count()); ++i) {
      for (int64_t e = nodes.starts[i]; e < nodes.starts[i + 1]; ++e)
        for (int64_t k = held.starts[nodes.holders[e] + 1] - 1; held.nodes[k] > i; --k)  // ends at i itself
          if (!s.supporters[held.nodes[k]]++) s.touched.push_back(held.nodes[k]);
      for (const int32_t j : s.touched) {
        const uint64_t* frames = nodes.frames.data();
        out[task].push_back({static_cast<int32_t>(i), j, s.supporters[j],
                             common(frames + i * nodes.words, frames + j * nodes.words, nodes.words)});
        s.supporters[j] = 0;
      }
      s.touched.clear();
    }
  });
  return out;
}

// Percentiles of the positive numbers of observers, linear between two of them, at least 1, each once.
std::vector<double> levels_of(const std::vector<std::vector<Pair>>& pairs, int64_t num_frames, const int64_t* percentiles,
                              int64_t count) {
  std::vector<int64_t> up_to(num_frames + 1);  // pairs with that many observers; then, with at most that many
  for (const auto& part : pairs)
    for (const Pair& pair : part) ++up_to[pair.observers];
  up_to[0] = 0;
  std::partial_sum(up_to.begin(), up_to.end(), up_to.begin());
  const auto ordered = [&](int64_t place) {
    return static_cast<double>(std::upper_bound(up_to.begin(), up_to.end(), place) - up_to.begin());
  };
  std::vector<double> levels;
  const int64_t last = up_to.back() - 1;
  for (int64_t k = 0; k < count && last >= 0; ++k) {
    const double place = static_cast<double>(percentiles[k] * last) / 100;
    const int64_t low = static_cast<int64_t>(place);
    const double below = ordered(low), above = ordered(std::min(low + 1, last));
    const double level = below + (above - below) * (place - static_cast<double>(low));
    if (levels.empty() || std::max(level, 1.0) != levels.back()) levels.push_back(std::max(level, 1.0));
  }
  return levels;
}

// Group of each node after joining the pairs, numbered by its first node; empty if none joins.
std::vector<int32_t> join(const std::vector<std::vector<Pair>>& pairs, int64_t num_nodes, double level, double rate) {
  std::vector<int32_t> root(num_nodes);
  std::iota(root.begin(), root.end(), 0);
  const auto find = [&](int32_t node) {
    while (root[node] != node) node = root[node] = root[root[node]];
    return node;
  };
  bool joined = false;
  for (const auto& part : pairs)
    for (const Pair& pair : part) {
      if (pair.observers < level || pair.supporters < rate * pair.observers) continue;
      joined = true;
      const int32_t a = find(pair.first), b = find(pair.second);
      root[std::max(a, b)] = std::min(a, b);
    }
  if (!joined) return {};
  int32_t groups = 0;
  std::vector<int32_t> group(num_nodes);
  for (int32_t node = 0; node < num_nodes; ++node) group[node] = find(node) == node ? groups++ : group[find(node)];
  return group;
}

Nodes merge(const Nodes& nodes, const std::vector<int32_t>& group) {
  const int64_t groups = *std::max_element(group.begin(), group.end()) + 1;
  std::vector<std::vector<int32_t>> members(groups);
  for (int64_t node = 0; node < nodes.count(); ++node) members[group[node]].push_back(static_cast<int32_t>(node));
  Nodes out{{0}, {}, std::vector<uint64_t>(groups * nodes.words), nodes.words};
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = static_cast<int64_t>(out.holders.size());
    for (const int32_t node : members[g]) {
      out.holders.insert(out.holders.end(), nodes.holders.begin() + nodes.starts[node],
                         nodes.holders.begin() + nodes.starts[node + 1]);
      for (int64_t w = 0; w < nodes.words; ++w) out.frames[g * nodes.words + w] |= nodes.frames[node * nodes.words + w];
    }
    if (members[g].size() > 1) {
      std::sort(out.holders.begin() + first, out.holders.end());
      out.holders.erase(std::unique(out.holders.begin() + first, out.holders.end()), out.holders.end());
    }
    out.starts.push_back(static_cast<int64_t>(out.holders.size()));
  }
  return out;
}

void check_rows(const Tensor& starts, const Tensor& columns, int64_t num_rows, int64_t num_columns) {
  check(starts.dim() == 1 && starts.numel() == num_rows + 1 && starts.scalar_type() == ScalarType::Long &&
            starts.is_contiguous() && columns.dim() == 1 && columns.scalar_type() == ScalarType::Int && columns.is_contiguous(),
        "mask_clusters: rows must be int64 (M + 1,) and int32 (E,)");
  const int64_t* start = data<int64_t>(starts);
  const int32_t* column = data<int32_t>(columns);
  check(num_rows >= 0 && start[0] == 0 && start[num_rows] == columns.numel() && std::is_sorted(start, start + num_rows + 1),
        "mask_clusters: starts do not fit the entries");
  for (int64_t row = 0; row < num_rows; ++row)
    for (int64_t e = start[row]; e < start[row + 1]; ++e)
      check(column[e] >= 0 && column[e] < num_columns && (e == start[row] || column[e - 1] < column[e]),
            "mask_clusters: a row does not ascend or is out of range");
}

}  // namespace

Tensor mask_clusters_op(const Tensor& starts, const Tensor& holders, const Tensor& frame_starts, const Tensor& frames,
                        int64_t num_holders, int64_t num_frames, const Tensor& percentiles, double rate) {
  const int64_t count = starts.numel() - 1;
  check_rows(starts, holders, count, num_holders);
  check_rows(frame_starts, frames, count, num_frames);
  check(percentiles.scalar_type() == ScalarType::Long && percentiles.is_contiguous(), "mask_clusters: percentiles must be int64");
  Nodes nodes{{data<int64_t>(starts), data<int64_t>(starts) + count + 1},
              {data<int32_t>(holders), data<int32_t>(holders) + holders.numel()}, {}, (num_frames + 63) / 64};
  nodes.frames.resize(count * nodes.words);
  for (int64_t node = 0; node < count; ++node)
    for (int64_t e = data<int64_t>(frame_starts)[node]; e < data<int64_t>(frame_starts)[node + 1]; ++e)
      nodes.frames[node * nodes.words + data<int32_t>(frames)[e] / 64] |= uint64_t{1} << data<int32_t>(frames)[e] % 64;
  Tensor out = empty(starts, {count}, ScalarType::Long);
  int64_t* group = mutable_data<int64_t>(out);
  std::iota(group, group + count, 0);
  auto pairs = find_pairs(nodes, num_holders);
  for (const double level : levels_of(pairs, num_frames, data<int64_t>(percentiles), percentiles.numel())) {
    const std::vector<int32_t> joined = join(pairs, nodes.count(), level, rate);
    if (joined.empty()) continue;
    nodes = merge(nodes, joined);
    for (int64_t mask = 0; mask < count; ++mask) group[mask] = joined[group[mask]];
    pairs = find_pairs(nodes, num_holders);
  }
  return out;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("mask_clusters", TORCH_BOX(&pc3d::mask_clusters_op)); }
