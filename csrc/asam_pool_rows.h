// Arithmetic on the rows of one tile in buffers, written once for every instruction set and for CUDA.
//
// Include after defining PC3D_SIMD, a namespace of its own, PC3D_TARGET, PC3D_INLINE and in that namespace a struct Simd: T,
// Vector, width (a divisor of asam::pad), panel (vectors) and tile (rows) of a register tile, set, load, load_part, store,
// store_part, multiply_add, relu, positive (bit per lane), keep (lanes whose bit is set, 0 elsewhere), total, totals (of `width`
// vectors in a row), beats, choose; and a function exp_of. Nothing of the standard library is called here: code made for one
// instruction set can then never be picked by the linker for another.
//
// A team of threads (on the CPU: one) shares the work of each function; between functions that read what others wrote, sync.
#include "asam_pool.h"

namespace pc3d {
namespace PC3D_SIMD {

using T = Simd::T;
using Vector = Simd::Vector;
using asam::tile_rows;
constexpr int kWidth = Simd::width;
constexpr T kNoScore = T(-1e30);

#ifdef __CUDACC__
struct Team {
  int rank, size;
  PC3D_TARGET void sync() const {
#ifdef __CUDA_ARCH__
    __syncthreads();
#endif
  }
};
#else
struct Team {  // of one: the compiler sees through the loops
  static constexpr int rank = 0, size = 1;
  PC3D_TARGET void sync() const {}
};
#endif

PC3D_TARGET inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The cells of a table of so many columns that one thread of a team visits: columns first, first + step, ..., in each rows
// row, row + row_step, ...
struct Grid {
  int first, step, row, row_step;
  PC3D_TARGET Grid(const Team& team, int columns) {
    const int shares = team.size / columns;  // threads to a column
    step = shares ? columns : team.size;
    first = !shares || team.rank < shares * columns ? team.rank % step : columns;
    row = shares ? team.rank / columns : 0;
    row_step = shares ? shares : 1;
  }
};

// Vector v of an unpadded row; lanes past its end are 0, and are not stored.
PC3D_INLINE Vector load_lanes(const T* row, int64_t channels, int v) {
  const int64_t lanes = channels - v * kWidth;
  if (lanes >= kWidth) return Simd::load(row + v * kWidth);
  return lanes > 0 ? Simd::load_part(row + v * kWidth, static_cast<int>(lanes)) : Simd::set(0);
}
PC3D_INLINE void store_lanes(T* row, int64_t channels, int v, Vector value) {
  const int64_t lanes = channels - v * kWidth;
  if (lanes >= kWidth) Simd::store(row + v * kWidth, value);
  else if (lanes > 0) Simd::store_part(row + v * kWidth, value, static_cast<int>(lanes));
}

// Ask for what will be read soon: the cache line of a word, those of a row.
PC3D_INLINE void prefetch_word(const void* word) {
#ifndef __CUDA_ARCH__
  __builtin_prefetch(word);
  asm volatile("");  // or gcc takes a function that does no more for one without effect, and leaves its calls out
#else
  (void)word;
#endif
}
PC3D_INLINE void prefetch(const T* row, int64_t channels) {
  for (int64_t c = 0; c < channels; c += 64 / static_cast<int64_t>(sizeof(T))) prefetch_word(row + c);
}

// Columns of a buffer. With a number that the compiler knows, addresses cost nothing.
struct AnyWidth {
  int64_t channels, stride;
};
template <int64_t C>
struct FixedWidth {
  static constexpr int64_t channels = C, stride = (C + asam::pad - 1) / asam::pad * asam::pad;
};
constexpr int64_t usual_channels = 32;  // those of released weights

// sum[r] += in[r] w for R rows and V vectors of columns.
template <int R, int V, class Width>
PC3D_INLINE void multiply(const T* in, const Width& width, const T* w, Vector (&sum)[R][V]) {
  for (int64_t c = 0; c < width.channels; ++c) {
    Vector b[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) b[v] = Simd::load(w + c * width.stride + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vector a = Simd::set(in[r * width.stride + c]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[r][v] = Simd::multiply_add(a, b[v], sum[r][v]);
    }
  }
}

// What a product starts from and what becomes of it: out = base + in w, or relu of that, or out += in w.
struct Product {
  const T *in, *w, *base;
  bool relu;
  T* out;

  template <int R, int V, class Width>
  PC3D_TARGET void tile(const Width& width, int64_t first, int64_t v) const {
    const T* start = base ? base + v * kWidth : nullptr;
    T* to = out + first * width.stride + v * kWidth;
    Vector sum[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) sum[r][i] = Simd::load((start ? start : to + r * width.stride) + i * kWidth);
    multiply<R, V>(in + first * width.stride, width, w + v * kWidth, sum);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < V; ++i) Simd::store(to + r * width.stride + i * kWidth, relu ? Simd::relu(sum[r][i]) : sum[r][i]);
  }
};

template <int R, int V, class Width, class Of>
PC3D_TARGET inline void tile_of_rows(const Of& of, const Width& width, int64_t first, int64_t rows, int64_t v) {
  if constexpr (R > 0) {
    if (rows >= R) of.template tile<R, V>(width, first, v);
    else tile_of_rows<R - 1, V>(of, width, first, rows, v);
  }
}

// of.tile for all register tiles of so many rows.
template <class Width, class Of>
PC3D_TARGET inline void each_register_tile(const Team& team, const Of& of, const Width& width, int rows, const T* soon) {
  const int vectors = static_cast<int>(width.stride / kWidth), panels = (vectors + Simd::panel - 1) / Simd::panel;
  const Grid grid(team, panels);
  for (int panel = grid.first; panel < panels; panel += grid.step)
    for (int first = grid.row * Simd::tile; first < rows; first += grid.row_step * Simd::tile) {
      const int v = panel * Simd::panel;
      if (soon && v == 0) prefetch(soon + first * width.stride, smaller(Simd::tile, rows - first) * width.stride);
      if (vectors - v >= Simd::panel) tile_of_rows<Simd::tile, Simd::panel>(of, width, first, rows - first, v);
      else tile_of_rows<Simd::tile, 1>(of, width, first, rows - first, v);
    }
}

// out = base + in w, or out += in w without a base; w (channels, stride). As many rows at `soon` are asked for meanwhile.
PC3D_TARGET inline void product(const Team& team, const T* in, int rows, int64_t channels, int64_t stride, const T* w, const T* base,
                                bool relu, T* out, const T* soon = nullptr) {
  const Product own{in, w, base, relu, out};
#ifndef __CUDACC__
  if (channels == usual_channels) return each_register_tile(team, own, FixedWidth<usual_channels>(), rows, soon);
#endif
  each_register_tile(team, own, AnyWidth{channels, stride}, rows, soon);
}

template <int C, int V>
PC3D_TARGET inline void outer_tile(const T* a, const T* b, int rows, int64_t stride, T* d) {
  Vector sum[C][V];
#pragma GCC unroll 16
  for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[c][v] = Simd::load(d + c * stride + v * kWidth);
  for (int r = 0; r < rows; ++r, a += stride, b += stride) {
    Vector y[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) y[v] = Simd::load(b + v * kWidth);
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      const Vector x = Simd::set(a[c]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[c][v] = Simd::multiply_add(x, y[v], sum[c][v]);
    }
  }
#pragma GCC unroll 16
  for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) Simd::store(d + c * stride + v * kWidth, sum[c][v]);
}

template <int C, int V>
PC3D_TARGET inline void outer_channels(int64_t channels, const T* a, const T* b, int rows, int64_t stride, T* d) {
  if constexpr (C > 0) {
    if (channels >= C) outer_tile<C, V>(a, b, rows, stride, d);
    else outer_channels<C - 1, V>(channels, a, b, rows, stride, d);
  }
}

// d (channels, stride) += sum over rows of a b^T. As many rows at `soon` are asked for meanwhile.
PC3D_TARGET inline void add_outer(const Team& team, const T* a, const T* b, int rows, int64_t channels, int64_t stride, T* d,
                                  const T* soon = nullptr) {
  const int vectors = static_cast<int>(stride / kWidth), panels = (vectors + Simd::panel - 1) / Simd::panel;
  const Grid grid(team, panels);
  for (int panel = grid.first; panel < panels; panel += grid.step)
    for (int64_t c = grid.row * Simd::tile; c < channels; c += grid.row_step * Simd::tile) {
      const int v = panel * Simd::panel;
      if (soon && v == 0) prefetch(soon + c * rows / channels * stride, Simd::tile * rows / channels * stride);
      T* to = d + c * stride + v * kWidth;
      if (vectors - v >= Simd::panel)
        outer_channels<Simd::tile, Simd::panel>(channels - c, a + c, b + v * kWidth, rows, stride, to);
      else outer_channels<Simd::tile, 1>(channels - c, a + c, b + v * kWidth, rows, stride, to);
    }
}

// Sum of the rows of a buffer, vector v.
PC3D_TARGET inline Vector sum_rows(const T* a, int rows, int64_t stride, int v) {
  Vector even = Simd::set(0), odd = Simd::set(0);
  int r = 0;
  for (; r + 1 < rows; r += 2) {
    even = even + Simd::load(a + r * stride + v * kWidth);
    odd = odd + Simd::load(a + (r + 1) * stride + v * kWidth);
  }
  return r < rows ? even + odd + Simd::load(a + r * stride + v * kWidth) : even + odd;
}

// out (stride) += sum of the rows.
PC3D_TARGET inline void add_rows(const Team& team, const T* a, int rows, int64_t stride, T* out) {
  for (int v = team.rank; v * kWidth < stride; v += team.size)
    Simd::store(out + v * kWidth, Simd::load(out + v * kWidth) + sum_rows(a, rows, stride, v));
}

constexpr int kAhead = 24;  // entries between asking for one and reading it

// Ask for the row of an entry, where there is one.
PC3D_INLINE void prefetch_row(const asam::Shape& shape, const asam::Input<T>& in, int64_t entry) {
  if (entry < shape.num_entries) prefetch(in.x + in.row[entry] * shape.channels, shape.channels);
}

// Rows of the tile.
PC3D_TARGET inline void gather(const Team& team, const asam::Shape& shape, const asam::Input<T>& in, segment::Tile tile, T* x) {
  const int rows = static_cast<int>(tile.end - tile.begin), vectors = static_cast<int>(shape.stride() / kWidth);
  const Grid grid(team, vectors);
  for (int v = grid.first; v < vectors; v += grid.step)
    for (int r = grid.row; r < rows; r += grid.row_step) {
      Simd::store(x + r * shape.stride() + v * kWidth,
                  load_lanes(in.x + in.row[tile.begin + r] * shape.channels, shape.channels, v));
    }
}

// d = center - x.
PC3D_TARGET inline void subtract(const Team& team, const T* center, int64_t channels, int64_t stride, const T* x, int rows, T* d) {
  const int vectors = static_cast<int>(stride / kWidth);
  const Grid grid(team, vectors);
  for (int v = grid.first; v < vectors; v += grid.step) {
    const Vector own = load_lanes(center, channels, v);
    for (int r = grid.row; r < rows; r += grid.row_step)
      Simd::store(d + r * stride + v * kWidth, own - Simd::load(x + r * stride + v * kWidth));
  }
}

// out = scale of the row times in.
PC3D_TARGET inline void scale_rows(const Team& team, const T* in, const T* scale, int rows, int64_t stride, T* out) {
  const int vectors = static_cast<int>(stride / kWidth);
  const Grid grid(team, vectors);
  for (int v = grid.first; v < vectors; v += grid.step)
    for (int r = grid.row; r < rows; r += grid.row_step)
      Simd::store(out + r * stride + v * kWidth, Simd::set(scale[r]) * Simd::load(in + r * stride + v * kWidth));
}

// out = value of the row where its gate is open, else 0.
PC3D_TARGET inline void open_gates(const Team& team, const uint8_t* gates, const T* value, int rows, int64_t stride, T* out) {
  const int vectors = static_cast<int>(stride / kWidth);
  const Grid grid(team, vectors);
  for (int v = grid.first; v < vectors; v += grid.step)
    for (int r = grid.row; r < rows; r += grid.row_step) {
      const uint8_t* own = gates + (r * stride + v * kWidth) / 8;
      unsigned bits = own[0];
      if constexpr (kWidth == 16) bits |= static_cast<unsigned>(own[1]) << 8;
      Simd::store(out + r * stride + v * kWidth, Simd::keep(bits, Simd::set(value[r])));
    }
}

// out = 0 where h is not positive.
PC3D_TARGET inline void pass_positive(const Team& team, const T* h, int rows, int64_t stride, T* out) {
  for (int64_t cell = team.rank * kWidth; cell < rows * stride; cell += team.size * kWidth)
    Simd::store(out + cell, Simd::keep(Simd::positive(Simd::load(h + cell)), Simd::load(out + cell)));
}

// Points of each row as numbers; the last vector of a tile's column may reach past its rows, and is 0 there.
PC3D_TARGET inline void read_counts(const Team& team, const int64_t* count, int rows, T* out) {
  for (int r = team.rank; r < tile_rows; r += team.size) out[r] = r < rows ? static_cast<T>(count[r]) : T(0);
}

// Bits of the vector that a gate's byte belongs to.
PC3D_INLINE void store_gates(uint8_t* gates, unsigned bits) {
  if constexpr (kWidth == 16) {
    const auto both = static_cast<uint16_t>(bits);
    __builtin_memcpy(gates, &both, 2);
  } else {
    gates[0] = static_cast<uint8_t>(bits);
  }
}

// score = relu(z) . w, and the gates of z. Past the rows the score is one that soften gives no weight.
PC3D_TARGET inline void score_rows(const Team& team, const T* z, const T* w, int rows, int64_t stride, T* score, uint8_t* gates) {
  for (int r = rows + team.rank; r < tile_rows; r += team.size) score[r] = kNoScore;
  for (int r = team.rank; r < rows; r += team.size) {
    Vector sum = Simd::set(0);
    for (int64_t c = 0; c < stride; c += kWidth) {
      const Vector value = Simd::load(z + r * stride + c);
      sum = Simd::multiply_add(Simd::relu(value), Simd::load(w + c), sum);
      store_gates(gates + (r * stride + c) / 8, Simd::positive(value));
    }
    score[r] = Simd::total(sum);
  }
}

// weight = count exp(score - level), 0 past the rows; `rows` are whole vectors.
PC3D_TARGET inline void soften(const Team& team, const T* score, const T* count, T level, T* weight, int rows = tile_rows) {
  for (int r = team.rank * kWidth; r < rows; r += team.size * kWidth)
    Simd::store(weight + r, Simd::load(count + r) * exp_of(Simd::load(score + r) - Simd::set(level)));
}

// The largest score of whole vectors of rows; NaN wins.
PC3D_TARGET inline T highest_score(const T* score, int rows = tile_rows) {
  Vector best = Simd::load(score);
  for (int r = kWidth; r < rows; r += kWidth) {
    const Vector value = Simd::load(score + r);
    best = Simd::choose(Simd::beats(value, best), value, best);
  }
  T lanes[kWidth];
  Simd::store(lanes, best);
  for (int l = 1; l < kWidth; ++l) lanes[0] = segment::beats(lanes[l], lanes[0]) ? lanes[l] : lanes[0];
  return lanes[0];
}

// Sum over rows of weight times x, vector v.
PC3D_TARGET inline Vector weighted_sum(const T* weight, const T* x, int rows, int64_t stride, int v) {
  Vector even = Simd::set(0), odd = Simd::set(0);
  int r = 0;
  for (; r + 1 < rows; r += 2) {
    even = Simd::multiply_add(Simd::set(weight[r]), Simd::load(x + r * stride + v * kWidth), even);
    odd = Simd::multiply_add(Simd::set(weight[r + 1]), Simd::load(x + (r + 1) * stride + v * kWidth), odd);
  }
  if (r < rows) even = Simd::multiply_add(Simd::set(weight[r]), Simd::load(x + r * stride + v * kWidth), even);
  return even + odd;
}

}  // namespace PC3D_SIMD
}  // namespace pc3d
