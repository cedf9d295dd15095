// relative_attention(query, query_position, query_xyz, key, key_position, value, key_xyz,
//                    query_table, key_table, value_table, grid_size, blocked?) -> (K, H e)
//
// Cross-attention of K queries and M keys of one scan with contextual relative positions; equations in pc3d/nn/attention.py.
// query, query_position are (K, H e), key, key_position, value (M, H e), the tables (H, e, 6 G), the positions (., 3), all
// float32; blocked is bool (K, M). A query that may look nowhere reads NaN, as in any softmax over nothing.
//
// No tensor of pairs is made. A block of queries, one per vector lane, passes over the keys in tiles and keeps its softmax
// going (Milakov and Gimelshein 2018). What the tables say about a pair is read for 8 heads at once: their columns lie with
// heads innermost, so that one pair costs three loads per table whatever the number of heads.
// Blocks hold queries that are near each other: what all of a block may not look at, which in a decoder is most, costs nothing.
// Sums are in a fixed order: results do not depend on the number of threads.
#pragma once

#include <cstdint>

namespace pc3d {

// Heads are taken in groups of 8; those of the last group that do not exist are zero.
constexpr int64_t kGroup = 8;

// Logits are kept in units of log 2, so that weights are powers of two.
constexpr float kLog2 = 1.44269504f;

struct AttentionShape {
  int64_t queries, keys, heads, channels, grid_length;
  float grid_size;

  int64_t width() const { return heads * channels; }
  int64_t columns() const { return 6 * grid_length; }
  int64_t groups() const { return (heads + kGroup - 1) / kGroup; }
  int64_t even_channels() const { return (channels + 1) / 2 * 2; }
};

struct AttentionData {
  const float *query, *query_position, *query_xyz, *key, *key_position, *value, *key_xyz;
  const int32_t* order;      // (K) the queries as blocks take them
  const bool* blocked;       // (K, M) or null
  const float* query_table;  // (groups, e, T, 8)
  const float* key_table;    // (groups, e, T, 8) times kLog2
  const float* value_table;  // (groups, T, e rounded up to even, 8)
  const float* key_rows;     // (groups, M, T, 8) what each key says of each column
};

struct AttentionKernels {
  int lanes;  // queries of a block
  // Floats of scratch for attend with so many blocks, which also do for key_rows.
  int64_t (*scratch_size)(const AttentionShape& shape, int64_t blocks);
  // key_rows of keys [begin, end).
  void (*key_rows)(const AttentionShape& shape, const AttentionData& data, int64_t begin, int64_t end, float* scratch, float* out);
  // What queries order[first] to order[first + count - 1] read. Their blocks go through the keys together, so that what a range of keys says
  // is taken from the second-level cache by all but the first.
  void (*attend)(const AttentionShape& shape, const AttentionData& data, int64_t first, int64_t count, float* scratch,
                 float* out);
};

#if defined(__x86_64__)
extern const AttentionKernels avx2_attention, avx512_attention;
#endif

}  // namespace pc3d
