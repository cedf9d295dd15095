// Edges of a graph by rising weight, NaN last: equal weights in their order, or as std::sort of libstdc++ leaves them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace pc3d {

struct KeyedEdge {
  uint32_t key;
  uint32_t edge;
};

// Unsigned integer that sorts like the float; -0 equals 0 and NaN comes last.
inline uint32_t sort_key(float weight) {
  if (weight != weight) return 0xffffffffu;
  const float positive_zero = weight + 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &positive_zero, sizeof bits);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The float that a key was made of.
inline float weight_of(uint32_t key) {
  const uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
  float weight;
  std::memcpy(&weight, &bits, sizeof weight);
  return weight;
}

// An array that nothing is written to before its use.
class EdgeArray {
 public:
  explicit EdgeArray(uint32_t count) : edges_(new KeyedEdge[count]), count_(count) {}

  KeyedEdge* begin() { return edges_.get(); }
  KeyedEdge* end() { return begin() + count_; }
  const KeyedEdge* begin() const { return edges_.get(); }
  const KeyedEdge* end() const { return begin() + count_; }
  void swap(EdgeArray& other) { edges_.swap(other.edges_); }

 private:
  std::unique_ptr<KeyedEdge[]> edges_;
  uint32_t count_;
};

inline EdgeArray keyed(const float* weights, uint32_t count) {
  EdgeArray edges(count);
  for (uint32_t e = 0; e < count; ++e) edges.begin()[e] = {sort_key(weights[e]), e};
  return edges;
}

// Stable radix sort: three digits of 11 bits.
inline EdgeArray sorted_by_weight(const float* weights, uint32_t count) {
  constexpr int digits = 3, bits = 11, buckets = 1 << bits;
  EdgeArray from = keyed(weights, count), to(count);
  std::vector<uint32_t> starts(digits * buckets, 0);
  for (const KeyedEdge& edge : from)
    for (int d = 0; d < digits; ++d) ++starts[d * buckets + ((edge.key >> (d * bits)) & (buckets - 1))];
  for (int d = 0; d < digits; ++d) {
    uint32_t* start = starts.data() + d * buckets;
    uint32_t total = 0;
    for (int b = 0; b < buckets; ++b) total += std::exchange(start[b], total);
    for (const KeyedEdge& edge : from) to.begin()[start[(edge.key >> (d * bits)) & (buckets - 1)]++] = edge;
    from.swap(to);
  }
  return from;
}

// The introsort of libstdc++, move for move: median of three, Hoare's partition down to 16 edges, one insertion sort.
// Where equal weights end up follows from its moves alone, so every compiler gives the order that ScanNet's segmentator
// gets from std::sort on Linux. Only how a partition finds what to swap is ours: blocks of offsets without branches.
class IntroSort {
 public:
  static void run(KeyedEdge* first, KeyedEdge* last) {
    int depth = 0;
    for (int64_t n = last - first; n > 1; n >>= 1) depth += 2;
    split(first, last, depth);
    for (KeyedEdge* next = first; next < last; ++next) insert(first, next);
  }

 private:
  static constexpr int kSmall = 16, kBlock = 64;

  static void split(KeyedEdge* first, KeyedEdge* last, int depth) {
    for (; last - first > kSmall; --depth) {
      if (depth == 0) return heap_sort(first, last);
      KeyedEdge* middle = first + (last - first) / 2;
      std::swap(*first, *median(first + 1, middle, last - 1));
      KeyedEdge* cut = partition(first + 1, last, first->key);
      split(cut, last, depth - 1);
      last = cut;
    }
  }

  static KeyedEdge* median(KeyedEdge* a, KeyedEdge* b, KeyedEdge* c) {
    if (a->key < b->key) return b->key < c->key ? b : a->key < c->key ? c : a;
    return a->key < c->key ? a : b->key < c->key ? c : b;
  }

  // Hoare's partition swaps the nth edge from the left that is not below the pivot with the nth from the right that is
  // not above it, until they meet. Both are collected a block at a time.
  static KeyedEdge* partition(KeyedEdge* first, KeyedEdge* last, uint32_t pivot) {
    uint8_t from_left[kBlock], from_right[kBlock];
    int num_left = 0, num_right = 0, at_left = 0, at_right = 0;
    while (last - first >= 2 * kBlock) {
      if (at_left == num_left) {
        at_left = num_left = 0;
        for (int i = 0; i < kBlock; ++i) {
          from_left[num_left] = static_cast<uint8_t>(i);
          num_left += first[i].key >= pivot;
        }
      }
      if (at_right == num_right) {
        at_right = num_right = 0;
        for (int i = 0; i < kBlock; ++i) {
          from_right[num_right] = static_cast<uint8_t>(i);
          num_right += last[-1 - i].key <= pivot;
        }
      }
      const int swaps = std::min(num_left - at_left, num_right - at_right);
      for (int i = 0; i < swaps; ++i) std::swap(first[from_left[at_left + i]], last[-1 - from_right[at_right + i]]);
      at_left += swaps;
      at_right += swaps;
      if (at_left == num_left) first += kBlock;
      if (at_right == num_right) last -= kBlock;
    }
    if (at_left < num_left) first += from_left[at_left];      // the rest of a block begins where its next swap is due
    if (at_right < num_right) last -= from_right[at_right];
    while (true) {
      while (first->key < pivot) ++first;
      --last;
      while (pivot < last->key) --last;
      if (first >= last) return first;
      std::swap(*first, *last);
      ++first;
    }
  }

  static void insert(KeyedEdge* first, KeyedEdge* next) {
    const KeyedEdge edge = *next;
    for (; next > first && edge.key < next[-1].key; --next) *next = next[-1];
    *next = edge;
  }

  static void sift(KeyedEdge* heap, int64_t hole, int64_t count, KeyedEdge edge) {
    const int64_t top = hole;
    int64_t child = hole;
    while (child < (count - 1) / 2) {
      child = 2 * (child + 1);
      if (heap[child].key < heap[child - 1].key) --child;
      heap[hole] = heap[child];
      hole = child;
    }
    if (count % 2 == 0 && child == (count - 2) / 2) {
      child = 2 * child + 1;
      heap[hole] = heap[child];
      hole = child;
    }
    for (int64_t parent = (hole - 1) / 2; hole > top && heap[parent].key < edge.key; parent = (hole - 1) / 2) {
      heap[hole] = heap[parent];
      hole = parent;
    }
    heap[hole] = edge;
  }

  static void heap_sort(KeyedEdge* first, KeyedEdge* last) {
    const int64_t count = last - first;
    for (int64_t parent = (count - 2) / 2; parent >= 0; --parent) sift(first, parent, count, first[parent]);
    while (last - first > 1) {
      --last;
      const KeyedEdge edge = *last;
      *last = *first;
      sift(first, 0, last - first, edge);
    }
  }
};

inline EdgeArray sorted_like_std_sort(const float* weights, uint32_t count) {
  EdgeArray edges = keyed(weights, count);
  IntroSort::run(edges.begin(), edges.end());
  return edges;
}

}  // namespace pc3d
