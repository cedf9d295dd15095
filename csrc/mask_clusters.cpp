#include "mask_clusters.h"

#include "sparse_rows.h"
#include "tasks.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <numeric>
#include <tuple>
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

// Nodes come in groups of kLanes. A set of nodes of one group is a number: the group, times 256, and a bit for each node.
constexpr int32_t kLanes = 8;
constexpr uint32_t kNoSet = UINT32_MAX;
constexpr int64_t kMostNodes = int64_t{1} << 26;  // and as many that are joined of them: kNoSet is none of them
constexpr int64_t kMostAtOnce = 255;  // holders that a lane can count

uint32_t set_of(int32_t node) { return static_cast<uint32_t>(node / kLanes) << kLanes | 128u >> node % kLanes; }

int32_t group_of(uint32_t set) { return static_cast<int32_t>(set >> kLanes); }

// A one in the lane of each node, bits 8 k of node k.
uint64_t lanes_of(uint32_t set) { return (set & 255) * 0x8040201008040201u >> 7 & 0x0101010101010101u; }

// What pairs of a node are found with: supporters of all others, 0 before and after, and up to kMostAtOnce of them by
// lanes, so too; and room.
struct Scratch {
  explicit Scratch(int64_t nodes)
      : lanes(nodes / kLanes + 1), groups(nodes / kLanes + 2), supporters(nodes + kLanes), others(nodes + kLanes), pairs(nodes) {}

  std::vector<uint64_t> lanes;
  std::vector<int32_t> groups, supporters, others;
  std::vector<Pair> pairs;
};

// Pairs that supporters suffice for, and how many pairs with a supporter each number of observers has.
struct Found {
  std::vector<Pair> pairs;
  std::vector<int64_t> with_observers;
};

// Number of each mask, by its first holder: then those of an object mostly share groups.
std::vector<int32_t> by_first_holder(const Sparse& holders, int64_t count, int64_t num_holders) {
  const auto first = [&](int64_t mask) {
    return holders.starts[mask] < holders.starts[mask + 1] ? holders.columns[holders.starts[mask]] : num_holders;
  };
  std::vector<int32_t> next(num_holders + 2), number(count);
  for (int64_t mask = 0; mask < count; ++mask) ++next[first(mask) + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  for (int64_t mask = 0; mask < count; ++mask) number[mask] = next[first(mask)]++;
  return number;
}

// The masks and, after them, what is joined of them: each new node takes the place of all nodes in it.
class Nodes {
 public:
  Nodes(const Sparse& holders, const int64_t* frame_of_holder, int64_t count, int64_t num_holders, int64_t num_frames,
        double rate)
      : number_(by_first_holder(holders, count, num_holders)), holders_(count), frames_(count * ((num_frames + 63) / 64)),
        words_((num_frames + 63) / 64), parent_(count), alive_(2 * count / kLanes + 1, kNoSet), starts_(num_holders),
        taken_(num_holders) {
    std::iota(parent_.begin(), parent_.end(), 0);
    enough_.push_back(std::numeric_limits<double>::infinity());
    for (int64_t observers = 1; observers <= 64 * words_; ++observers) enough_.push_back(rate * observers);
    for (int64_t mask = 0; mask < count; ++mask) {
      const int64_t node = number_[mask];
      holders_[node] = holders[mask];
      for (const int32_t holder : holders[mask]) {
        ++starts_[holder];
        frames_[node * words_ + frame_of_holder[holder] / 64] |= uint64_t{1} << frame_of_holder[holder] % 64;
      }
    }
    int64_t room = 0;
    for (int64_t& start : starts_) room += std::exchange(start, room) + 1;
    held_.resize(room, kNoSet);
    ends_ = starts_;
    for (int32_t node = 0; node < this->count(); ++node)
      for (const int32_t holder : holders_[node]) hold(holder, node);
  }

  int32_t count() const { return static_cast<int32_t>(parent_.size()); }

  int64_t most_observers() const { return 64 * words_; }

  // Adds the frames that observe a node.
  void add_frames(int32_t node, std::vector<int32_t>& to) const {
    for (int64_t w = 0; w < words_; ++w)
      for (uint64_t bits = frames_[node * words_ + w]; bits; bits &= bits - 1)
        to.push_back(static_cast<int32_t>(64 * w + __builtin_ctzll(bits)));
  }

  // Node that a mask is in.
  int32_t of_mask(int64_t mask) { return find(number_[mask]); }

  // Adds the pairs of a node with those before it.
  void find_pairs(int32_t node, Scratch& s, Found& out) const {
#if defined(__x86_64__)
    if (best_isa() >= Isa::avx2) return popcnt_pairs(node, s, out);
#endif
    any_pairs(node, s, out);
  }

  // Joins these pairs, but for those of nodes that were joined before.
  void join(std::vector<Pair> pairs) {
    const auto gone = [&](const Pair& pair) { return !lives(pair.first) || !lives(pair.second); };
    pairs.erase(std::remove_if(pairs.begin(), pairs.end(), gone), pairs.end());
    for (const std::vector<int32_t>& set : sets(pairs)) add(set);
  }

  Found none() const { return {{}, std::vector<int64_t>(most_observers() + 1)}; }

 private:
  int32_t find(int32_t node) {
    while (parent_[node] != node) node = parent_[node] = parent_[parent_[node]];
    return node;
  }

  bool lives(int32_t node) const { return parent_[node] == node; }

  // A holder has a node too, which comes after all others that it has.
  void hold(int32_t holder, int32_t node) {
    const uint32_t set = set_of(node), last = held_[ends_[holder]];
    const bool same = group_of(last) == group_of(set);  // a branch would be hard to foresee
    held_[ends_[holder] += !same] = same ? last | set : set;
  }

  // A holder has none of the nodes that were joined any more.
  void drop_joined(int32_t holder) {
    int64_t end = starts_[holder];
    for (int64_t k = end + 1; k <= ends_[holder]; ++k) {
      const uint32_t left = held_[k] & alive_[group_of(held_[k])];
      held_[end + 1] = left;
      end += left % 256 != 0;
    }
    ends_[holder] = end;
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
      alive_[old / kLanes] &= ~(set_of(old) % 256);
      for (const int32_t holder : holders_[old])
        if (!std::exchange(taken_[holder], 1)) holders.push_back(holder);
      for (int64_t w = 0; w < words_; ++w) frames_[node * words_ + w] |= frames_[old * words_ + w];
    }
    parent_.push_back(node);
    for (const int32_t holder : holders) {
      taken_[holder] = 0;
      drop_joined(holder);
      hold(holder, node);
    }
    joined_.push_back(std::move(holders));
    holders_.push_back({joined_.back().data(), joined_.back().data() + joined_.back().size()});
  }

  // Counts supporters of a node and others before it: those that have any.
  int64_t find_others(int32_t node, Scratch& s) const {
    uint64_t* lanes = s.lanes.data();
    int32_t *groups = s.groups.data(), *supporters = s.supporters.data(), *others = s.others.data();
    const int32_t own = node / kLanes;
    int64_t count = 0;
    for (const int32_t *holder = holders_[node].first, *next; holder < holders_[node].last; holder = next) {
      next = holder + std::min(holders_[node].last - holder, kMostAtOnce);
      int64_t num_groups = 0;
      for (const int32_t* one = holder; one < next; ++one)
        for (const uint32_t* held = held_.data() + starts_[*one] + 1;; ++held) {
          const int32_t group = group_of(*held);
          groups[num_groups] = group;
          num_groups += !lanes[group];  // a branch would be hard to foresee
          lanes[group] += lanes_of(*held);
          if (group == own) break;
        }
      lanes[own] &= (uint64_t{1} << 8 * (node % kLanes)) - 1;
      for (int64_t k = 0; k < num_groups; ++k) {
        uint64_t more = std::exchange(lanes[groups[k]], 0);
        for (int32_t other = groups[k] * kLanes; other < (groups[k] + 1) * kLanes; ++other, more >>= 8) {
          others[count] = other;
          count += !supporters[other] & (more % 256 != 0);
          supporters[other] += more % 256;
        }
      }
    }
    return count;
  }

  __attribute__((always_inline)) inline void pairs_of(int32_t node, Scratch& s, Found& out) const {
    const int64_t count = find_others(node, s), words = words_;
    int32_t *supporters = s.supporters.data(), *others = s.others.data();
    int64_t* with_observers = out.with_observers.data();
    const uint64_t* own = frames_.data() + node * words;
    Pair* pair = s.pairs.data();
    for (int64_t k = 0; k < count; ++k) {
      const uint64_t* frames = frames_.data() + others[k] * words;
      int32_t observers = 0;
      for (int64_t w = 0; w < words; ++w) observers += __builtin_popcountll(own[w] & frames[w]);
      ++with_observers[observers];
      *pair = {others[k], node, observers};
      pair += std::exchange(supporters[others[k]], 0) >= enough_[observers];
    }
    out.pairs.insert(out.pairs.end(), s.pairs.data(), pair);
  }

  void any_pairs(int32_t node, Scratch& s, Found& out) const { pairs_of(node, s, out); }
#if defined(__x86_64__)
  __attribute__((target("popcnt"))) void popcnt_pairs(int32_t node, Scratch& s, Found& out) const { pairs_of(node, s, out); }
#endif

  std::vector<int32_t> number_;  // node of each mask at first
  std::vector<Span> holders_;    // of each node
  std::vector<uint64_t> frames_;  // bits, (nodes, words)
  int64_t words_;
  std::vector<double> enough_;   // supporters of a pair that has so many observers
  std::vector<int32_t> parent_;  // itself, for a node that is not in another
  std::vector<uint32_t> alive_;  // of each group the nodes that are not in others; all higher bits
  std::vector<uint32_t> held_;   // nodes of each holder, as sets, ascending: kNoSet, at its start, and then up to its end
  std::vector<int64_t> starts_, ends_;
  std::vector<char> taken_;      // holders of the node being made
  std::deque<std::vector<int32_t>> joined_;  // holders of nodes that are not masks
};

// All pairs of masks, by tasks.
std::vector<Found> all_pairs(const Nodes& nodes) {
  std::vector<Found> found((nodes.count() + kRows - 1) / kRows, nodes.none());
  run_tasks(static_cast<int64_t>(found.size()), [&] { return Scratch(nodes.count()); }, [&](Scratch& s, int64_t task) {
    for (int64_t node = task * kRows; node < std::min<int64_t>((task + 1) * kRows, nodes.count()); ++node)
      nodes.find_pairs(static_cast<int32_t>(node), s, found[task]);
  });
  return found;
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

// Pairs by the first level, of falling ones, that their observers reach.
class Waiting {
 public:
  Waiting(std::vector<Found> found, const std::vector<double>& levels, int64_t most_observers)
      : level_of_(most_observers + 1), late_(levels.size() + 1) {
    for (int64_t observers = 0; observers <= most_observers; ++observers)
      level_of_[observers] = std::find_if(levels.begin(), levels.end(), [=](double level) { return observers >= level; }) -
                             levels.begin();
    parts_.resize(found.size());
    run_tasks(static_cast<int64_t>(found.size()), [&](int64_t task) { parts_[task] = sorted(found[task].pairs); });
  }

  // Pairs that are found before a level wait for it at least.
  void add(const std::vector<Pair>& pairs, int64_t level) {
    for (const Pair& pair : pairs) late_[std::max(level, level_of_[pair.observers])].push_back(pair);
  }

  std::vector<Pair> take(int64_t level) {
    std::vector<Pair> out = std::move(late_[level]);
    for (const Part& part : parts_)
      out.insert(out.end(), part.pairs.begin() + part.ends[level], part.pairs.begin() + part.ends[level + 1]);
    return out;
  }

 private:
  struct Part {
    std::vector<Pair> pairs;
    std::vector<int64_t> ends;  // of each level, the first after 0
  };

  Part sorted(const std::vector<Pair>& pairs) const {
    Part out{std::vector<Pair>(pairs.size()), std::vector<int64_t>(late_.size() + 2)};
    for (const Pair& pair : pairs) ++out.ends[level_of_[pair.observers] + 2];
    std::partial_sum(out.ends.begin(), out.ends.end(), out.ends.begin());
    for (const Pair& pair : pairs) out.pairs[out.ends[level_of_[pair.observers] + 1]++] = pair;
    return out;
  }

  std::vector<int64_t> level_of_;  // of each number of observers
  std::vector<Part> parts_;
  std::vector<std::vector<Pair>> late_;  // of each level, and of none
};

template <class T>
Tensor tensor_of(const Tensor& like, const std::vector<T>& values, ScalarType type) {
  Tensor out = empty(like, {static_cast<int64_t>(values.size())}, type);
  std::copy(values.begin(), values.end(), mutable_data<T>(out));
  return out;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> mask_clusters_op(const Tensor& starts, const Tensor& holders, const Tensor& frame_of_holder,
                                                    int64_t num_frames, const Tensor& percentiles, double rate) {
  check(frame_of_holder.dim() == 1 && frame_of_holder.scalar_type() == ScalarType::Long && frame_of_holder.is_contiguous(),
        "mask_clusters: frame_of_holder must be int64 (H,)");
  const int64_t num_holders = frame_of_holder.numel(), *frames = data<int64_t>(frame_of_holder);
  check(std::all_of(frames, frames + num_holders, [=](int64_t frame) { return frame >= 0 && frame < num_frames; }),
        "mask_clusters: a frame is out of range");
  const SparseRows held = sparse_rows("mask_clusters", starts, holders, num_holders, Columns::ascending);
  const int64_t count = held.count;
  check(count <= kMostNodes, "mask_clusters: more than 2^26 masks");
  check(percentiles.scalar_type() == ScalarType::Long && percentiles.is_contiguous(), "mask_clusters: percentiles must be int64");
  Nodes nodes({held}, frames, count, num_holders, num_frames, rate);
  std::vector<Found> found = all_pairs(nodes);
  std::vector<int64_t> with_observers = nodes.none().with_observers;
  for (const Found& part : found)
    std::transform(part.with_observers.begin(), part.with_observers.end(), with_observers.begin(), with_observers.begin(),
                   std::plus<>());
  const std::vector<double> levels = levels_of(std::move(with_observers), data<int64_t>(percentiles), percentiles.numel());
  Waiting waiting(std::move(found), levels, nodes.most_observers());
  Scratch scratch(2 * count);  // joining makes fewer nodes than there are
  for (size_t level = 0; level < levels.size(); ++level) {
    Found more = nodes.none();
    const int32_t before = nodes.count();
    nodes.join(waiting.take(level));
    for (int32_t node = before; node < nodes.count(); ++node) nodes.find_pairs(node, scratch, more);
    waiting.add(more.pairs, level + 1);
  }
  Tensor group = empty(starts, {count}, ScalarType::Long);
  std::vector<int64_t> number(nodes.count(), -1), ends{0};
  std::vector<int32_t> observers;
  for (int64_t mask = 0; mask < count; ++mask) {
    const int32_t node = nodes.of_mask(mask);
    if (number[node] < 0) {
      number[node] = static_cast<int64_t>(ends.size()) - 1;
      nodes.add_frames(node, observers);
      ends.push_back(static_cast<int64_t>(observers.size()));
    }
    mutable_data<int64_t>(group)[mask] = number[node];
  }
  return {group, tensor_of(starts, ends, ScalarType::Long), tensor_of(starts, observers, ScalarType::Int)};
}

}  // namespace pc3d

STABLE_TORCH_LIBRARY_IMPL(pc3d, CPU, m) { m.impl("mask_clusters", TORCH_BOX(&pc3d::mask_clusters_op)); }
