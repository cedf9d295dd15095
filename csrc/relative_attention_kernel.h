// The loops of relative_attention, written once for the instruction sets with vectors of floats.
//
// Include after defining PC3D_SIMD, PC3D_TARGET and the struct Simd of vector_math.h, here with Heads (8 floats), load_heads,
// store_heads, repeat, transpose and comparisons too. Lanes are queries, except where heads are innermost.
#include "relative_attention.h"
#include "vector_math.h"

namespace pc3d {
namespace PC3D_SIMD {

using Heads = Simd::Heads;
constexpr int kVectors = Simd::query_vectors;       // vectors of queries in a block
constexpr int kLanes = kVectors * Simd::width;
constexpr int kKeys = Simd::key_rows;               // keys, or channels, of a register tile
constexpr int64_t kTile = 32;                       // keys between two updates of the softmax
constexpr int64_t kRange = 2 * kTile;               // keys that all blocks of a task take before any takes the next
constexpr int64_t kHeadStride = kTile * kLanes + 16;  // of logits; off a power of two, or all heads meet in one cache set
constexpr int kParts = Simd::width / kGroup;        // columns whose 8 heads fill a vector
constexpr float kSlack = 8;                         // logits may pass the maximum they are taken relative to by so much
static_assert(kTile % kKeys == 0, "tiles are whole");

// c[r][j] = sum over n of a[r][n] b[n][j] for each of 8 heads, innermost in all three; R rows, V vectors of columns.
template <int R, int V>
PC3D_TARGET inline void head_tile(const float* a, const float* b, float* c, int64_t steps, int64_t columns) {
  Vector sum[R][V] = {};
  for (int64_t n = 0; n < steps; ++n) {
    Vector w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = Simd::load(b + n * columns * kGroup + v * Simd::width);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vector x = Simd::repeat(a + (r * steps + n) * kGroup);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = Simd::multiply_add(x, w[v], sum[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) Simd::store(c + r * columns * kGroup + v * Simd::width, sum[r][v]);
}

template <int R>
PC3D_TARGET inline void head_rows(const float* a, const float* b, float* c, int64_t steps, int64_t columns) {
  constexpr int V = Simd::column_vectors;
  int64_t j = 0;
  for (; j + V * kParts <= columns; j += V * kParts)
    head_tile<R, V>(a, b + j * kGroup, c + j * kGroup, steps, columns);
  for (; j < columns; j += kParts) head_tile<R, 1>(a, b + j * kGroup, c + j * kGroup, steps, columns);
}

PC3D_TARGET inline void multiply_heads(const float* a, const float* b, float* c, int64_t rows, int64_t steps, int64_t columns) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) head_rows<4>(a + r * steps * kGroup, b, c + r * columns * kGroup, steps, columns);
  for (; r < rows; ++r) head_rows<1>(a + r * steps * kGroup, b, c + r * columns * kGroup, steps, columns);
}

// A row (H e) as (e, 8) for the heads of one group, times scale.
PC3D_TARGET inline void heads_inside(const AttentionShape& shape, const float* row, int64_t group, float scale, float* out) {
  for (int64_t c = 0; c < shape.channels; ++c)
    for (int64_t h = 0; h < kGroup; ++h) {
      const int64_t head = group * kGroup + h;
      out[c * kGroup + h] = head < shape.heads ? row[head * shape.channels + c] * scale : 0;
    }
}

PC3D_TARGET void attention_key_rows(const AttentionShape& shape, const AttentionData& data, int64_t begin, int64_t end,
                                    float* scratch, float* out) {
  const int64_t e = shape.channels, t = shape.columns();
  for (int64_t g = 0; g < shape.groups(); ++g)
    for (int64_t m = begin; m < end; m += kLanes) {
      const int64_t count = end - m < kLanes ? end - m : kLanes;
      for (int64_t i = 0; i < count; ++i)
        heads_inside(shape, data.key + (m + i) * shape.width(), g, 1, scratch + i * e * kGroup);
      multiply_heads(scratch, data.key_table + g * e * t * kGroup, out + (g * shape.keys + m) * t * kGroup, count, e, t);
    }
}

// What a block of queries keeps while it passes over the keys, and the space that the blocks of a task share.
struct Block {
  const AttentionShape& shape;
  const AttentionData& data;
  const int32_t* queries;
  int64_t count;
  float* query;          // (H, 2 e, lanes) content and position, scaled
  float* query_rows;     // (groups, lanes, T, 8) what each query says of each column
  float* weight_rows;    // (groups, lanes, T, 8) sums of weights on each column
  float* read;           // (H, e, lanes) sums of values
  float* xyz;            // (3, lanes)
  float* limit;          // (H, lanes) what logits are taken relative to
  float* total;          // (H, lanes) sums of weights
  float* logits;         // shared: (heads of all groups, tile, lanes), then weights
  float* factor;         // shared: (heads of all groups, lanes)
  float* turned;         // shared: (lanes, even channels, 8)
  int32_t* column;       // shared: (tile, 3, lanes) 8 times the column of a pair on each axis
};

// The query of a lane; a block that is not full repeats its last.
PC3D_TARGET inline int64_t query_of(const Block& b, int64_t lane) { return b.queries[lane < b.count ? lane : b.count - 1]; }

PC3D_TARGET inline int64_t shared_floats(const AttentionShape& s) {
  return s.groups() * kGroup * (kHeadStride + kLanes) + kLanes * (s.even_channels() * kGroup + 3 * kTile);
}
PC3D_TARGET inline int64_t block_floats(const AttentionShape& s) {
  return kLanes * (3 * s.width() + 2 * s.groups() * s.columns() * kGroup + 3 + 2 * s.heads);
}

PC3D_TARGET inline Block make_block(const AttentionShape& s, const AttentionData& data, int64_t first, int64_t count, float* shared,
                                    float* own) {
  const int64_t rows = s.groups() * kLanes * s.columns() * kGroup, heads = s.groups() * kGroup * kLanes;
  float *query_rows = own + 2 * s.width() * kLanes, *read = query_rows + 2 * rows, *xyz = read + s.width() * kLanes;
  float *limit = xyz + 3 * kLanes, *factor = shared + s.groups() * kGroup * kHeadStride, *turned = factor + heads;
  return {s, data, data.order + first, count, own, query_rows, query_rows + rows, read, xyz, limit, limit + s.heads * kLanes,
          shared, factor, turned, reinterpret_cast<int32_t*>(turned + kLanes * s.even_channels() * kGroup)};
}

// Queries turned to lanes.
PC3D_TARGET inline void load_queries(const Block& b) {
  const int64_t e = b.shape.channels, t = b.shape.columns(), width = b.shape.width();
  const float scale = kLog2 * Simd::reciprocal_root(2.0f * e);
  for (int64_t l = 0; l < kLanes; ++l) {
    const int64_t q = query_of(b, l);
    for (int64_t h = 0; h < b.shape.heads; ++h)
      for (int64_t c = 0; c < e; ++c) {
        b.query[((2 * h) * e + c) * kLanes + l] = b.data.query[q * width + h * e + c] * scale;
        b.query[((2 * h + 1) * e + c) * kLanes + l] = b.data.query_position[q * width + h * e + c] * scale;
      }
    for (int a = 0; a < 3; ++a) b.xyz[a * kLanes + l] = b.data.query_xyz[3 * q + a];
  }
  for (int64_t g = 0; g < b.shape.groups(); ++g) {
    for (int64_t l = 0; l < kLanes; ++l)
      heads_inside(b.shape, b.data.query + query_of(b, l) * width, g, scale, b.turned + l * e * kGroup);
    multiply_heads(b.turned, b.data.query_table + g * e * t * kGroup, b.query_rows + g * kLanes * t * kGroup, kLanes, e, t);
  }
  for (int64_t i = 0; i < b.shape.groups() * kLanes * t * kGroup; ++i) b.weight_rows[i] = 0;
  for (int64_t i = 0; i < width * kLanes; ++i) b.read[i] = 0;
  for (int64_t i = 0; i < b.shape.heads * kLanes; ++i) {
    b.limit[i] = -Simd::infinity;
    b.total[i] = 0;
  }
}

// Lists the keys of a range that some query of the block may look at, and for each a bit per query; returns their number.
PC3D_TARGET inline int64_t list_keys(const Block& b, int64_t begin, int64_t end, int32_t* seen, uint32_t* may) {
  for (int64_t m = begin; m < end; ++m) may[m - begin] = b.data.blocked ? 0 : ~0u;
  for (int64_t l = 0; l < kLanes && b.data.blocked; ++l) {
    const bool* row = b.data.blocked + query_of(b, l) * b.shape.keys;
    for (int64_t m = begin; m < end; ++m) may[m - begin] |= static_cast<uint32_t>(!row[m]) << l;
  }
  int64_t found = 0;
  for (int64_t m = begin; m < end; ++m) {
    seen[found] = static_cast<int32_t>(m);
    may[found] = may[m - begin];
    found += may[m - begin] != 0;
  }
  return found;
}

// Logits of content and position for kKeys keys and one head.
PC3D_TARGET inline void content_tile(const Block& b, int64_t h, const float* const* key, const float* const* position, float* out) {
  const int64_t e = b.shape.channels;
  const float* q = b.query + h * 2 * e * kLanes;
  Vector sum[kKeys][kVectors] = {};
  for (int half = 0; half < 2; ++half) {
    const float* row[kKeys];
#pragma GCC unroll 16
    for (int r = 0; r < kKeys; ++r) row[r] = (half ? position : key)[r] + h * e;
    for (int64_t c = 0; c < e; ++c, q += kLanes) {
      Vector x[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) x[v] = Simd::load(q + v * Simd::width);
#pragma GCC unroll 16
      for (int r = 0; r < kKeys; ++r) {
        const Vector k = Simd::set(row[r][c]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sum[r][v] = Simd::multiply_add(k, x[v], sum[r][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kKeys; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) Simd::store(out + r * kLanes + v * Simd::width, sum[r][v]);
}

PC3D_TARGET inline void content_logits(const Block& b, const int32_t* keys, int64_t count) {
  const int64_t width = b.shape.width();
  for (int64_t m = 0; m < count; m += kKeys) {
    const float *key[kKeys], *position[kKeys];
    for (int r = 0; r < kKeys; ++r) {
      const int64_t at = keys[m + r < count ? m + r : count - 1] * width;
      key[r] = b.data.key + at;
      position[r] = b.data.key_position + at;
    }
    for (int64_t h = 0; h < b.shape.heads; ++h) content_tile(b, h, key, position, b.logits + h * kHeadStride + m * kLanes);
  }
}

// The table columns of all pairs of the tile, clamp(floor((x_i - x_j) / grid), -G, G - 1) + G on each axis.
PC3D_TARGET inline void find_columns(const Block& b, const int32_t* keys, int64_t count) {
  const float length = static_cast<float>(b.shape.grid_length);
  const Vector size = Simd::set(b.shape.grid_size), low = Simd::set(-length), high = Simd::set(length - 1);
  for (int64_t m = 0; m < count; ++m)
    for (int a = 0; a < 3; ++a) {
      const Vector key = Simd::set(b.data.key_xyz[3 * keys[m] + a]), shift = Simd::set(length * static_cast<float>(2 * a + 1));
      for (int v = 0; v < kVectors; ++v) {
        const Vector steps = Simd::floor((Simd::load(b.xyz + a * kLanes + v * Simd::width) - key) / size);
        const Vector inside = Simd::max(steps, low);  // NaN becomes a column that exists
        Simd::store_int(b.column + (m * 3 + a) * kLanes + v * Simd::width,
                        (Simd::min(inside, high) + shift) * Simd::set(static_cast<float>(kGroup)));
      }
    }
}

// Adds what the tables say: for 8 heads at once the sum of six columns of each pair, turned to lanes. Eight queries at a
// time, so that what they say stays in the first-level cache.
PC3D_TARGET inline void add_table_logits(const Block& b, const int32_t* keys, int64_t count) {
  const int64_t row = b.shape.columns() * kGroup;
  for (int64_t g = 0; g < b.shape.groups(); ++g)
    for (int64_t l = 0; l < kLanes; l += kGroup)
      for (int64_t m = 0; m < count; ++m) {
        const float* key = b.data.key_rows + (g * b.shape.keys + keys[m]) * row;
        const float* query = b.query_rows + (g * kLanes + l) * row;
        const int32_t* x = b.column + m * 3 * kLanes + l;
        Heads pair[kGroup];
#pragma GCC unroll 8
        for (int i = 0; i < kGroup; ++i, ++x, query += row)
          pair[i] = (Simd::load_heads(query + x[0]) + Simd::load_heads(query + x[kLanes]) + Simd::load_heads(query + x[2 * kLanes])) +
                    (Simd::load_heads(key + x[0]) + Simd::load_heads(key + x[kLanes]) + Simd::load_heads(key + x[2 * kLanes]));
        Simd::transpose(pair);
        float* to = b.logits + g * kGroup * kHeadStride + m * kLanes + l;
#pragma GCC unroll 8
        for (int h = 0; h < kGroup; ++h, to += kHeadStride) Simd::store_heads(to, Simd::load_heads(to) + pair[h]);
      }
}

// Weights 2^(logit - limit) in place of the logits, and their sums. Returns whether a limit had to grow; b.factor then says
// what all sums so far must be multiplied with.
PC3D_TARGET inline bool weigh(const Block& b, const uint32_t* may, int64_t count) {
  bool grown = false;
  for (int64_t h = 0; h < b.shape.heads; ++h)
    for (int v = 0; v < kVectors; ++v) {
      float* logits = b.logits + h * kHeadStride + v * Simd::width;
      float *limit = b.limit + h * kLanes + v * Simd::width, *total = b.total + h * kLanes + v * Simd::width;
      Vector most = Simd::set(-Simd::infinity);
      for (int64_t m = 0; m < count; ++m) {
        const Vector seen = Simd::where(may[m] >> (v * Simd::width), Simd::load(logits + m * kLanes));
        Simd::store(logits + m * kLanes, seen);
        most = Simd::max(seen, most);
      }
      const Vector before = Simd::load(limit);
      const Vector after = Simd::where_greater(most, before + Simd::set(kSlack), most, before);
      const Vector shift = Simd::finite_or_zero(after);
      const bool grows = Simd::any_greater(most, before + Simd::set(kSlack));
      Vector sum = Simd::load(total);
      if (grows) {
        const Vector factor = power_of_two(Simd::finite_or_zero(before) - shift);
        Simd::store(b.factor + h * kLanes + v * Simd::width, Simd::where_greater(before, Simd::set(-Simd::infinity), factor, Simd::set(0)));
        sum = sum * Simd::load(b.factor + h * kLanes + v * Simd::width);
        grown = true;
      } else {
        Simd::store(b.factor + h * kLanes + v * Simd::width, Simd::set(1));
      }
      for (int64_t m = 0; m < count; ++m) {
        const Vector weight = power_of_two(Simd::load(logits + m * kLanes) - shift);
        Simd::store(logits + m * kLanes, weight);
        sum = sum + weight;
      }
      Simd::store(limit, after);
      Simd::store(total, sum);
    }
  return grown;
}

// Multiplies all that was read so far with b.factor.
PC3D_TARGET inline void rescale(const Block& b) {
  const int64_t e = b.shape.channels, row = b.shape.columns() * kGroup;
  for (int64_t h = 0; h < b.shape.heads; ++h)
    for (int v = 0; v < kVectors; ++v) {
      const Vector factor = Simd::load(b.factor + h * kLanes + v * Simd::width);
      float* read = b.read + h * e * kLanes + v * Simd::width;
      for (int64_t c = 0; c < e; ++c) Simd::store(read + c * kLanes, Simd::load(read + c * kLanes) * factor);
    }
  for (int64_t g = 0; g < b.shape.groups(); ++g)
    for (int64_t l = 0; l < kLanes; ++l) {
      float factor[kGroup];
      for (int64_t h = 0; h < kGroup; ++h) factor[h] = b.factor[(g * kGroup + h) * kLanes + l];
      const Heads by = Simd::load_heads(factor);
      float* to = b.weight_rows + (g * kLanes + l) * row;
      for (int64_t t = 0; t < row; t += kGroup) Simd::store_heads(to + t, Simd::load_heads(to + t) * by);
    }
}

// Adds weight times value for R channels of one head.
template <int R>
PC3D_TARGET inline void read_tile(const Block& b, int64_t h, int64_t c, const int32_t* keys, int64_t count) {
  float* to = b.read + (h * b.shape.channels + c) * kLanes;
  const float *weight = b.logits + h * kHeadStride, *value = b.data.value + h * b.shape.channels + c;
  Vector sum[R][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Simd::load(to + r * kLanes + v * Simd::width);
  for (int64_t m = 0; m < count; ++m, weight += kLanes) {
    const float* row = value + keys[m] * b.shape.width();
    Vector w[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) w[v] = Simd::load(weight + v * Simd::width);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vector x = Simd::set(row[r]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Simd::multiply_add(x, w[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) Simd::store(to + r * kLanes + v * Simd::width, sum[r][v]);
}

PC3D_TARGET inline void read_values(const Block& b, const int32_t* keys, int64_t count) {
  for (int64_t h = 0; h < b.shape.heads; ++h) {
    int64_t c = 0;
    for (; c + kKeys <= b.shape.channels; c += kKeys) read_tile<kKeys>(b, h, c, keys, count);
    for (; c < b.shape.channels; ++c) read_tile<1>(b, h, c, keys, count);
  }
}

// Adds the weights of each pair, for 8 heads at once, to its three columns.
PC3D_TARGET inline void add_weight_rows(const Block& b, int64_t count) {
  const int64_t row = b.shape.columns() * kGroup;
  for (int64_t g = 0; g < b.shape.groups(); ++g)
    for (int64_t l = 0; l < kLanes; l += kGroup)
      for (int64_t m = 0; m < count; ++m) {
        const float* from = b.logits + g * kGroup * kHeadStride + m * kLanes + l;
        Heads weight[kGroup];
#pragma GCC unroll 8
        for (int h = 0; h < kGroup; ++h) weight[h] = Simd::load_heads(from + h * kHeadStride);
        Simd::transpose(weight);
        float* to = b.weight_rows + (g * kLanes + l) * row;
        const int32_t* x = b.column + m * 3 * kLanes + l;
#pragma GCC unroll 8
        for (int i = 0; i < kGroup; ++i, ++x, to += row)
#pragma GCC unroll 3
          for (int a = 0; a < 3; ++a) {
            float* cell = to + x[a * kLanes];
            Simd::store_heads(cell, Simd::load_heads(cell) + weight[i]);
          }
      }
}

PC3D_TARGET inline void write_block(const Block& b, float* out) {
  const int64_t e = b.shape.channels, even = b.shape.even_channels(), t = b.shape.columns();
  for (int64_t g = 0; g < b.shape.groups(); ++g) {
    multiply_heads(b.weight_rows + g * kLanes * t * kGroup, b.data.value_table + g * t * even * kGroup, b.turned, kLanes, t, even);
    for (int64_t h = g * kGroup; h < b.shape.heads && h < (g + 1) * kGroup; ++h)
      for (int64_t l = 0; l < b.count; ++l) {
        const float inverse = 1 / b.total[h * kLanes + l];
        float* to = out + query_of(b, l) * b.shape.width() + h * e;
        for (int64_t c = 0; c < e; ++c)
          to[c] = (b.read[(h * e + c) * kLanes + l] + b.turned[(l * even + c) * kGroup + h - g * kGroup]) * inverse;
      }
  }
}

// One block passes over one range of keys.
PC3D_TARGET inline void attend_range(const Block& b, int64_t begin, int64_t end) {
  int32_t seen[kRange];
  uint32_t may[kRange];
  const int64_t found = list_keys(b, begin, end, seen, may);
  for (int64_t from = 0; from < found; from += kTile) {
    const int64_t tile = found - from < kTile ? found - from : kTile;
    const int32_t* keys = seen + from;
    content_logits(b, keys, tile);
    find_columns(b, keys, tile);
    add_table_logits(b, keys, tile);
    if (weigh(b, may + from, tile)) rescale(b);
    read_values(b, keys, tile);
    add_weight_rows(b, tile);
  }
}

int64_t attention_scratch(const AttentionShape& s, int64_t blocks) { return shared_floats(s) + blocks * block_floats(s); }

PC3D_TARGET void attention_blocks(const AttentionShape& shape, const AttentionData& data, int64_t first, int64_t count,
                                  float* scratch, float* out) {
  float* own = scratch + shared_floats(shape);
  for (int64_t i = 0; i < shared_floats(shape); ++i) scratch[i] = 0;
  const auto block = [&](int64_t at) PC3D_TARGET {
    const int64_t left = count - at < kLanes ? count - at : kLanes;
    return make_block(shape, data, first + at, left, scratch, own + at / kLanes * block_floats(shape));
  };
  for (int64_t at = 0; at < count; at += kLanes) load_queries(block(at));
  for (int64_t begin = 0; begin < shape.keys; begin += kRange)
    for (int64_t at = 0; at < count; at += kLanes)
      attend_range(block(at), begin, begin + kRange < shape.keys ? begin + kRange : shape.keys);
  for (int64_t at = 0; at < count; at += kLanes) write_block(block(at), out);
}

extern const AttentionKernels attention_kernels;
const AttentionKernels attention_kernels = {kLanes, attention_scratch, attention_key_rows, attention_blocks};

}  // namespace PC3D_SIMD
}  // namespace pc3d
