// Edges of a graph by rising weight: equal weights keep their order, NaN comes last.
#pragma once

#include <cstdint>
#include <cstring>
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

// Stable radix sort: three digits of 11 bits.
inline std::vector<KeyedEdge> sorted_by_weight(const float* weights, uint32_t count) {
  constexpr int digits = 3, bits = 11, buckets = 1 << bits;
  std::vector<KeyedEdge> from(count), to(count);
  std::vector<uint32_t> starts(digits * buckets, 0);
  for (uint32_t e = 0; e < count; ++e) {
    const uint32_t key = sort_key(weights[e]);
    from[e] = {key, e};
    for (int d = 0; d < digits; ++d) ++starts[d * buckets + ((key >> (d * bits)) & (buckets - 1))];
  }
  for (int d = 0; d < digits; ++d) {
    uint32_t* start = starts.data() + d * buckets;
    uint32_t total = 0;
    for (int b = 0; b < buckets; ++b) total += std::exchange(start[b], total);
    for (const KeyedEdge& edge : from) to[start[(edge.key >> (d * bits)) & (buckets - 1)]++] = edge;
    from.swap(to);
  }
  return from;
}

}  // namespace pc3d
