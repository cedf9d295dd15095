#include "mask_clusters.h"

#include "sparse_rows.h"
#include "tasks.h"

#include <algorithm>
#include <cmath>
#include <functional>
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

// Holders come in words, a bit each, nodes in groups, of which kLanes are counted at a time.
constexpr int32_t kLanes = 8;
constexpr int64_t kMostNodes = int64_t{1} << 26;  // and as many that are joined of them

struct alignas(64) Lanes {
  uint64_t of[kLanes] = {};
};

// Those of a word of holders that a node has.
struct Word {
  int32_t word;
  uint64_t bits;
};

// Those of a word of holders that each node of a group has: groups ascend.
struct Column {
  std::vector<int32_t> groups;
  std::vector<Lanes> bits;

  void set(int32_t node, uint64_t holders) {
    if (groups.empty() || groups.back() != node / kLanes) groups.push_back(node / kLanes), bits.emplace_back();
    bits.back().of[node % kLanes] = holders;
  }

  // Leaves nodes that live, of which each group has so many bits.
  void keep(const std::vector<Lanes>& living) {
    size_t size = 0;
    for (size_t k = 0; k < groups.size(); ++k) {
      Lanes left;
      uint64_t any = 0;
      for (int l = 0; l < kLanes; ++l) any |= left.of[l] = bits[k].of[l] & living[groups[k]].of[l];
      groups[size] = groups[k], bits[size] = left;
      size += any != 0;
    }
    groups.resize(size), bits.resize(size);
  }
};

// What pairs of a node are found with: supporters by groups of others, 0 before and after; groups that have any, and observers
// of each; by lanes, how many pairs with a supporter each number of observers has; and room.
struct Scratch {
  Scratch(int64_t nodes, int64_t most_observers)
      : supporters(nodes / kLanes + 1), observers(supporters.size()), found(supporters.size()), groups(supporters.size() + 1),
        hits(nodes + kLanes), with_observers(kLanes * (most_observers + 1)) {}

  std::vector<Lanes> supporters, observers;
  std::vector<char> found;
  std::vector<int32_t> groups;
  std::vector<Hit> hits;
  std::vector<int32_t> with_observers;
};

// For some nodes, one after another, the others before each that supporters suffice for, and where those of each end; and how
// many pairs with a supporter each number of observers has.
struct Found {
  std::vector<Hit> hits;
  std::vector<int64_t> ends;
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
      : number_(by_first_holder(holders, count, num_holders)), frame_words_((num_frames + 63) / 64),
        columns_((num_holders + 63) / 64), room_(columns_.size()), touched_(columns_.size() + 1), parent_(count),
        starts_{0} {
    std::iota(parent_.begin(), parent_.end(), 0);
    for (int64_t observers = 1; observers <= most_observers(); ++observers)
      enough_.push_back(static_cast<int32_t>(std::min<double>(INT32_MAX, std::max(std::ceil(rate * observers), 1.0))));
    std::vector<int32_t> mask_of(count), place(num_holders, -1);
    for (int32_t mask = 0; mask < count; ++mask) mask_of[number_[mask]] = mask;
    int32_t places = 0;  // by the first node of a holder: then those of an object mostly share words
    grow(count);
    for (int32_t node = 0; node < count; ++node) {
      int64_t touched = 0;
      for (const int32_t holder : holders[mask_of[node]]) {
        if (place[holder] < 0) place[holder] = places++;
        const uint32_t own = place[holder];
        const uint64_t frame = frame_of_holder[holder];
        touched = add_bits(own / 64, uint64_t{1} << own % 64, touched);
        frames(node, frame / 64) |= uint64_t{1} << frame % 64;
      }
      end_node(node, touched);
    }
  }

  int32_t count() const { return static_cast<int32_t>(parent_.size()); }

  int64_t most_observers() const { return 64 * frame_words_; }

  // Adds the frames that observe a node.
  void add_frames(int32_t node, std::vector<int32_t>& to) {
    for (int64_t w = 0; w < frame_words_; ++w)
      for (uint64_t bits = frames(node, w); bits; bits &= bits - 1)
        to.push_back(static_cast<int32_t>(64 * w + __builtin_ctzll(bits)));
  }

  // Node that a mask is in.
  int32_t of_mask(int64_t mask) { return find(number_[mask]); }

  bool lives(int32_t node) const { return living_[node / kLanes].of[node % kLanes]; }

  // Adds the pairs of a node with those before it.
  void find_pairs(int32_t node, Scratch& s, Found& out) const {
#if defined(__x86_64__)
    if (isa_ >= Isa::avx512 && __builtin_cpu_supports("avx512vpopcntdq")) avx512_pairs(node, s, out);
    else if (isa_ >= Isa::avx2) popcnt_pairs(node, s, out);
    else any_pairs(node, s, out);
#else
    any_pairs(node, s, out);
#endif
    out.ends.push_back(static_cast<int64_t>(out.hits.size()));
  }

  // Two nodes that live will be in one.
  void unite(int32_t a, int32_t b) {
    united_.push_back(a), united_.push_back(b);
    a = find(a), b = find(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }

  // Makes nodes of those that were united since.
  void join() {
    for (const std::vector<int32_t>& set : sets()) add(set);
    for (Column& column : columns_) column.keep(living_);
  }

 private:
  int32_t find(int32_t node) {
    while (parent_[node] != node) node = parent_[node] = parent_[parent_[node]];
    return node;
  }

  uint64_t& frames(int32_t node, int64_t word) { return frames_[node / kLanes * frame_words_ + word].of[node % kLanes]; }

  // Makes room for so many nodes.
  void grow(int64_t nodes) {
    living_.resize((nodes + kLanes - 1) / kLanes);
    frames_.resize(living_.size() * frame_words_);
  }

  // The node that is being made has holders of a word, after some of ``touched`` words: of how many then.
  int64_t add_bits(int32_t word, uint64_t bits, int64_t touched) {
    touched_[touched] = word;
    touched += !room_[word];  // a branch would be hard to foresee
    room_[word] |= bits;
    return touched;
  }

  void end_node(int32_t node, int64_t touched) {
    for (int64_t k = 0; k < touched; ++k) {
      const uint64_t bits = std::exchange(room_[touched_[k]], 0);
      words_.push_back({touched_[k], bits});
      columns_[touched_[k]].set(node, bits);
    }
    starts_.push_back(static_cast<int64_t>(words_.size()));
    living_[node / kLanes].of[node % kLanes] = ~uint64_t{0};
  }

  // Nodes that were united.
  std::vector<std::vector<int32_t>> sets() {
    std::vector<std::vector<int32_t>> out;
    number_of_.resize(parent_.size(), -1);
    seen_.resize(parent_.size());
    for (const int32_t node : united_) {
      if (std::exchange(seen_[node], 1)) continue;
      int32_t& set = number_of_[find(node)];
      if (set < 0) set = static_cast<int32_t>(out.size()), out.emplace_back();
      out[set].push_back(node);
    }
    united_.clear();
    return out;
  }

  // A node of all these, with their holders and frames.
  void add(const std::vector<int32_t>& nodes) {
    const int32_t node = count();
    int64_t touched = 0;
    grow(node + 1);
    for (const int32_t old : nodes) {
      parent_[old] = node;
      living_[old / kLanes].of[old % kLanes] = 0;
      for (int64_t k = starts_[old]; k < starts_[old + 1]; ++k) touched = add_bits(words_[k].word, words_[k].bits, touched);
      for (int64_t w = 0; w < frame_words_; ++w) frames(node, w) |= frames(old, w);
    }
    parent_.push_back(node);
    end_node(node, touched);
  }

  // Counts supporters of a node and others before it, by groups: how many groups have any.
  __attribute__((always_inline)) inline int64_t count_supporters(int32_t node, Scratch& s) const {
    const int32_t own = node / kLanes;
    int32_t* groups = s.groups.data();
    char* found = s.found.data();
    Lanes* supporters = s.supporters.data();
    int64_t count = 0;
    for (int64_t k = starts_[node]; k < starts_[node + 1]; ++k) {
      const Word word = words_[k];
      const Lanes* bits = columns_[word.word].bits.data();
      const int32_t* next = columns_[word.word].groups.data();
      for (int32_t group = -1; group != own; ++bits) {
        group = *next++;
        for (int l = 0; l < kLanes; ++l) supporters[group].of[l] += __builtin_popcountll(word.bits & bits->of[l]);
        groups[count] = group;
        count += !std::exchange(found[group], 1);  // a branch would be hard to foresee
      }
    }
    for (int l = 0; l < kLanes; ++l) supporters[own].of[l] = l < node % kLanes ? supporters[own].of[l] : 0;
    int64_t kept = 0;
    for (int64_t k = 0; k < count; ++k) {
      const int32_t group = groups[kept] = groups[k];
      found[group] = 0;
      uint64_t any = 0;
      for (const uint64_t some : supporters[group].of) any |= some;
      kept += any != 0;
    }
    return kept;
  }

  // Counts the frames that observe a node and others in these groups, 0 where no holder supports them.
  __attribute__((always_inline)) inline void count_observers(int32_t node, const int32_t* groups, int64_t count,
                                                             Scratch& s) const {
    const int64_t words = frame_words_;
    const Lanes* own = frames_.data() + node / kLanes * words;
    for (int64_t k = 0; k < count; ++k) {
      const Lanes* frames = frames_.data() + groups[k] * words;
      const Lanes& supporters = s.supporters[groups[k]];
      Lanes sum;
      for (int64_t w = 0; w < words; ++w)
        for (int l = 0; l < kLanes; ++l) sum.of[l] += __builtin_popcountll(own[w].of[node % kLanes] & frames[w].of[l]);
      for (int l = 0; l < kLanes; ++l) s.observers[k].of[l] = supporters.of[l] ? sum.of[l] : 0;
    }
  }

  __attribute__((always_inline)) inline void pairs_of(int32_t node, Scratch& s, Found& out) const {
    const int64_t count = starts_[node] < starts_[node + 1] ? count_supporters(node, s) : 0;
    const int32_t *groups = s.groups.data(), *enough = enough_.data();
    count_observers(node, groups, count, s);
    Hit* hit = s.hits.data();
    int32_t* with_observers = s.with_observers.data();
    for (int64_t k = 0; k < count; ++k) {
      Lanes& supporters = s.supporters[groups[k]];
      for (int l = 0; l < kLanes; ++l) {
        const int32_t observers = static_cast<int32_t>(s.observers[k].of[l]);
        ++with_observers[kLanes * observers + l];
        *hit = {groups[k] * kLanes + l, observers};
        hit += static_cast<int32_t>(supporters.of[l]) >= enough[observers];
      }
      supporters = Lanes();
    }
    out.hits.insert(out.hits.end(), s.hits.data(), hit);
  }

  void any_pairs(int32_t node, Scratch& s, Found& out) const { pairs_of(node, s, out); }
#if defined(__x86_64__)
  __attribute__((target("popcnt"))) void popcnt_pairs(int32_t node, Scratch& s, Found& out) const { pairs_of(node, s, out); }
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq,prefer-vector-width=512"))) void avx512_pairs(
      int32_t node, Scratch& s, Found& out) const {
    pairs_of(node, s, out);
  }
#endif

  Isa isa_ = best_isa();           // reads the environment: once
  std::vector<int32_t> number_;    // node of each mask at first
  int64_t frame_words_;
  std::vector<int32_t> enough_{INT32_MAX};  // supporters of a pair that has so many observers
  std::vector<Column> columns_;    // of each word of holders
  std::vector<uint64_t> room_;     // of each word of holders those of the node being made, and which words have any
  std::vector<int32_t> touched_;
  std::vector<int32_t> parent_;    // itself, for a node that is not in another
  std::vector<int64_t> starts_;    // of the words of each node
  std::vector<Word> words_;
  std::vector<Lanes> living_;      // all bits of each node that is not in another
  std::vector<Lanes> frames_;      // that observe each node, bits: (groups, frame_words_)
  std::vector<int32_t> united_, number_of_;
  std::vector<char> seen_;
};

// All pairs of masks, by tasks.
std::vector<Found> all_pairs(const Nodes& nodes) {
  std::vector<Found> found((nodes.count() + kRows - 1) / kRows);
  const auto scratch = [&] { return Scratch(nodes.count(), nodes.most_observers()); };
  run_tasks(static_cast<int64_t>(found.size()), scratch, [&](Scratch& s, int64_t task) {
    for (int64_t node = task * kRows; node < std::min<int64_t>((task + 1) * kRows, nodes.count()); ++node)
      nodes.find_pairs(static_cast<int32_t>(node), s, found[task]);
    std::vector<int64_t>& sum = found[task].with_observers;
    sum.resize(nodes.most_observers() + 1);
    for (size_t k = 0; k < s.with_observers.size(); ++k) sum[k / kLanes] += std::exchange(s.with_observers[k], 0);
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
    run_tasks(static_cast<int64_t>(found.size()), [&](int64_t task) { parts_[task] = sorted(found[task], task * kRows); });
  }

  // Pairs of nodes from ``first`` on that are found before a level wait for it at least.
  void add(const Found& found, int32_t first, int64_t level) {
    each(found, first, [&](const Pair& pair, int32_t observers) {
      late_[std::max(level, level_of_[observers])].push_back(pair);
    });
  }

  // What to do with the pairs of a level.
  template <class F>
  void take(int64_t level, const F& f) const {
    std::for_each(late_[level].begin(), late_[level].end(), f);
    for (const Part& part : parts_) std::for_each(&part.pairs[part.ends[level]], &part.pairs[part.ends[level + 1]], f);
  }

 private:
  struct Part {
    std::vector<Pair> pairs;
    std::vector<int64_t> ends;  // of each level, the first after 0
  };

  template <class F>
  static void each(const Found& found, int64_t node, const F& f) {
    auto hit = found.hits.begin();
    for (const int64_t end : found.ends) {
      for (; hit < found.hits.begin() + end; ++hit) f({hit->other, static_cast<int32_t>(node)}, hit->observers);
      ++node;
    }
  }

  Part sorted(const Found& found, int64_t first) const {
    Part out{std::vector<Pair>(found.hits.size()), std::vector<int64_t>(late_.size() + 2)};
    for (const Hit& hit : found.hits) ++out.ends[level_of_[hit.observers] + 2];
    std::partial_sum(out.ends.begin(), out.ends.end(), out.ends.begin());
    each(found, first, [&](const Pair& pair, int32_t observers) { out.pairs[out.ends[level_of_[observers] + 1]++] = pair; });
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
  std::vector<int64_t> with_observers(nodes.most_observers() + 1);
  for (const Found& part : found)
    std::transform(part.with_observers.begin(), part.with_observers.end(), with_observers.begin(), with_observers.begin(),
                   std::plus<>());
  const std::vector<double> levels = levels_of(std::move(with_observers), data<int64_t>(percentiles), percentiles.numel());
  Waiting waiting(std::move(found), levels, nodes.most_observers());
  Scratch scratch(2 * count, nodes.most_observers());  // joining makes fewer nodes than there are
  for (size_t level = 0; level < levels.size(); ++level) {
    Found more;
    const int32_t before = nodes.count();
    waiting.take(level, [&](const Pair& pair) {  // mostly of the same second one after another
      if (nodes.lives(pair.second) && nodes.lives(pair.first)) nodes.unite(pair.first, pair.second);
    });
    nodes.join();
    for (int32_t node = before; node < nodes.count(); ++node) nodes.find_pairs(node, scratch, more);
    waiting.add(more, before, level + 1);
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
