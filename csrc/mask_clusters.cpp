#include "mask_clusters.h"

#include "sparse_rows.h"
#include "tasks.h"

#include <algorithm>
#include <deque>
#include <numeric>
#include <utility>

namespace pc3d {
namespace {

using namespace mask_clusters;

constexpr int64_t kRows = 64;  // masks of a task

struct Span {
  const int32_t *first, *last;

  const int32_t* begin() const { return first; }
  const int32_t* end() const { return last; }
};

struct Sparse : SparseRows {
  Span operator[](int64_t row) const { return {columns + starts[row], columns + starts[row + 1]}; }
};

// What pairs of a node are found with: supporters of all others, 0 before and after; and room.
struct Scratch {
  explicit Scratch(int64_t nodes) : supporters(nodes), others(nodes + 1), pairs(nodes) {}

  std::vector<int32_t> supporters, others;
  std::vector<Pair> pairs;
};

// Pairs that supporters suffice for, and how many pairs with a supporter each number of observers has.
struct Found {
  std::vector<Pair> pairs;
  std::vector<int64_t> with_observers;
};

// The masks and, after them, what is joined of them: each new node takes the place of all nodes in it.
class Nodes {
 public:
  Nodes(const Sparse& holders, const Sparse& frames, int64_t count, int64_t num_holders, int64_t num_frames, double rate)
      : holders_(count), frames_(count * ((num_frames + 63) / 64)), words_((num_frames + 63) / 64), rate_(rate), parent_(count),
        starts_(num_holders + 1), taken_(num_holders) {
    std::iota(parent_.begin(), parent_.end(), 0);
    for (int64_t node = 0; node < count; ++node) {
      holders_[node] = holders[node];
      for (const int32_t holder : holders[node]) ++starts_[holder];
      for (const int32_t frame : frames[node]) frames_[node * words_ + frame / 64] |= uint64_t{1} << frame % 64;
    }
    int64_t sum = 0;
    for (int64_t& start : starts_) sum += std::exchange(start, sum);
    held_.resize(sum);
    ends_ = starts_;
    for (int64_t node = 0; node < count; ++node)
      for (const int32_t holder : holders[node]) held_[ends_[holder]++] = static_cast<int32_t>(node);
  }

  int32_t count() const { return static_cast<int32_t>(parent_.size()); }

  // Adds the pairs of a node with those before it.
  void find_pairs(int32_t node, Scratch& s, Found& out) const {
#if defined(__x86_64__)
    if (best_isa() >= Isa::avx2) return popcnt_pairs(node, s, out);
#endif
    any_pairs(node, s, out);
  }

  // Joins the pairs that reach a level; what is left waits for the next, with the pairs of the new nodes.
  void join(std::vector<std::vector<Pair>>& pairs, double level, Scratch& s) {
    const int32_t before = count();
    for (const std::vector<int32_t>& set : sets(take(pairs, level))) add(set);
    Found found = none();
    for (int32_t node = before; node < count(); ++node) find_pairs(node, s, found);
    pairs.push_back(std::move(found.pairs));
  }

  Found none() const { return {{}, std::vector<int64_t>(64 * words_ + 1)}; }

  int32_t find(int32_t node) {
    while (parent_[node] != node) node = parent_[node] = parent_[parent_[node]];
    return node;
  }

 private:
  bool lives(int32_t node) const { return parent_[node] == node; }

  // Takes out the pairs that reach a level, and drops those of nodes that were joined; which they are is hard to foresee.
  std::vector<Pair> take(std::vector<std::vector<Pair>>& pairs, double level) const {
    std::vector<Pair> reached;
    size_t taken = 0;
    for (std::vector<Pair>& part : pairs) {
      size_t kept = 0;
      reached.resize(taken + part.size());
      for (const Pair& pair : part) {
        const bool live = lives(pair.first) & lives(pair.second), reaches = pair.observers >= level;
        const Pair one = pair;
        reached[taken] = part[kept] = one;
        taken += live & reaches;
        kept += live & !reaches;
      }
      part.resize(kept);
    }
    reached.resize(taken);
    return reached;
  }

  // Nodes that pairs join, each set ascending.
  std::vector<std::vector<int32_t>> sets(const std::vector<Pair>& pairs) {
    const int32_t before = count();
    std::vector<char> touched(before);
    std::vector<int32_t> number(before, -1);
    for (const Pair& pair : pairs) {
      const int32_t a = find(pair.first), b = find(pair.second);
      parent_[std::max(a, b)] = std::min(a, b);
      touched[pair.first] = touched[pair.second] = 1;
    }
    std::vector<std::vector<int32_t>> out;
    for (int32_t node = 0; node < before; ++node) {
      if (!touched[node]) continue;
      int32_t& set = number[find(node)];
      if (set < 0) set = static_cast<int32_t>(out.size()), out.emplace_back();
      out[set].push_back(node);
    }
    return out;
  }

  // A node of all these, with their holders and frames, which those that hold them hold instead.
  void add(const std::vector<int32_t>& nodes) {
    const int32_t node = count();
    std::vector<int32_t> holders;
    frames_.resize(frames_.size() + words_);
    for (const int32_t old : nodes) {
      parent_[old] = node;
      for (const int32_t holder : holders_[old])
        if (!std::exchange(taken_[holder], 1)) holders.push_back(holder);
      for (int64_t w = 0; w < words_; ++w) frames_[node * words_ + w] |= frames_[old * words_ + w];
    }
    parent_.push_back(node);
    for (const int32_t holder : holders) {
      taken_[holder] = 0;
      int64_t end = starts_[holder];
      for (int64_t k = end; k < ends_[holder]; ++k) {
        const int32_t old = held_[end] = held_[k];
        end += lives(old);
      }
      held_[end] = node;
      ends_[holder] = end + 1;
    }
    joined_.push_back(std::move(holders));
    holders_.push_back({joined_.back().data(), joined_.back().data() + joined_.back().size()});
  }

  __attribute__((always_inline)) inline void pairs_of(int32_t node, Scratch& s, Found& out) const {
    int32_t *supporters = s.supporters.data(), *others = s.others.data();
    int64_t count = 0;
    for (const int32_t holder : holders_[node])
      for (const int32_t* held = held_.data() + starts_[holder]; *held < node; ++held) {  // ends at the node itself
        const int32_t other = *held;
        others[count] = other;
        count += !supporters[other]++;  // a branch would be hard to foresee
      }
    Pair* pair = s.pairs.data();
    for (int64_t k = 0; k < count; ++k) {
      int32_t observers = 0;
      for (int64_t w = 0; w < words_; ++w)
        observers += __builtin_popcountll(frames_[node * words_ + w] & frames_[others[k] * words_ + w]);
      ++out.with_observers[observers];
      *pair = {others[k], node, observers};
      pair += (observers > 0) & (std::exchange(supporters[others[k]], 0) >= rate_ * observers);
    }
    out.pairs.insert(out.pairs.end(), s.pairs.data(), pair);
  }

  void any_pairs(int32_t node, Scratch& s, Found& out) const { pairs_of(node, s, out); }
#if defined(__x86_64__)
  __attribute__((target("popcnt"))) void popcnt_pairs(int32_t node, Scratch& s, Found& out) const { pairs_of(node, s, out); }
#endif

  std::vector<Span> holders_;    // of each node
  std::vector<uint64_t> frames_;  // bits, (nodes, words)
  int64_t words_;
  double rate_;
  std::vector<int32_t> parent_;  // itself, for a node that is not in another
  std::vector<int32_t> held_;    // nodes of each holder, ascending: between starts and ends
  std::vector<int64_t> starts_, ends_;
  std::vector<char> taken_;      // holders of the node being made
  std::deque<std::vector<int32_t>> joined_;  // holders of nodes that are not masks
};

// All pairs of masks, by tasks, and how many of them have each number of observers.
std::pair<std::vector<std::vector<Pair>>, std::vector<int64_t>> all_pairs(const Nodes& nodes) {
  std::vector<Found> found((nodes.count() + kRows - 1) / kRows, nodes.none());
  run_tasks(static_cast<int64_t>(found.size()), [&] { return Scratch(nodes.count()); }, [&](Scratch& s, int64_t task) {
    for (int64_t node = task * kRows; node < std::min<int64_t>((task + 1) * kRows, nodes.count()); ++node)
      nodes.find_pairs(static_cast<int32_t>(node), s, found[task]);
  });
  std::pair<std::vector<std::vector<Pair>>, std::vector<int64_t>> out{{}, nodes.none().with_observers};
  for (Found& part : found) {
    for (size_t k = 0; k < part.with_observers.size(); ++k) out.second[k] += part.with_observers[k];
    out.first.push_back(std::move(part.pairs));
  }
  return out;
}

// Percentiles of the positive numbers of observers, of which there are so many of each, linear between two of them, at
// least 1, each once.
std::vector<double> levels_of(std::vector<int64_t> up_to, const int64_t* percentiles, int64_t count) {
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

}  // namespace

Tensor mask_clusters_op(const Tensor& starts, const Tensor& holders, const Tensor& frame_starts, const Tensor& frames,
                        int64_t num_holders, int64_t num_frames, const Tensor& percentiles, double rate) {
  const SparseRows held = sparse_rows("mask_clusters", starts, holders, num_holders, Columns::ascending);
  const SparseRows seen = sparse_rows("mask_clusters", frame_starts, frames, num_frames, Columns::ascending);
  check(held.count == seen.count, "mask_clusters: every mask needs holders and frames");
  const int64_t count = held.count;
  check(percentiles.scalar_type() == ScalarType::Long && percentiles.is_contiguous(), "mask_clusters: percentiles must be int64");
  Nodes nodes({held}, {seen}, count, num_holders, num_frames, rate);
  auto [pairs, with_observers] = all_pairs(nodes);
  Scratch scratch(2 * count);  // joining makes fewer nodes than there are
  for (const double level : levels_of(with_observers, data<int64_t>(percentiles), percentiles.numel()))
    nodes.join(pairs, level, scratch);
  Tensor out = empty(starts, {count}, ScalarType::Long);
  int64_t groups = 0;
  std::vector<int64_t> group(nodes.count(), -1);
  for (int64_t mask = 0; mask < count; ++mask) {
    int64_t& own = group[nodes.find(static_cast<int32_t>(mask))];
    if (own < 0) own = groups++;
    mutable_data<int64_t>(out)[mask] = own;
  }
  return out;
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("mask_clusters", TORCH_BOX(&pc3d::mask_clusters_op)); }
