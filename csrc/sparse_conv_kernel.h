// The innermost products of the sparse convolution, written once for every instruction set.
//
// Include after defining PC3D_SIMD, a namespace of its own, PC3D_TARGET, the target attribute, and in that namespace a
// struct Simd: T, Vector, width, max_vectors, load, load_part, store, store_part, broadcast, multiply_add, and the rows
// (rows_for) and channels (channels_for) of a register tile that is so many vectors wide. Nothing of the standard library
// is called here: code made for one instruction set can then never be picked by the linker for another.

#include "sparse_conv.h"

namespace pc3d {
namespace PC3D_SIMD {

using Scalar = Simd::T;
constexpr int kWidth = Simd::width;

// The last vector of a row may be partly padding: Part loads and stores only its `lanes` real channels.
template <bool Part>
PC3D_TARGET inline Simd::Vector load_last(const Scalar* p, int lanes) {
  if constexpr (Part) return Simd::load_part(p, lanes);
  return Simd::load(p);
}
template <bool Part>
PC3D_TARGET inline void store_last(Scalar* p, Simd::Vector v, int lanes) {
  if constexpr (Part) Simd::store_part(p, v, lanes);
  else Simd::store(p, v);
}

// R rows of y, V vectors wide, in registers: y[r] += sum over c of x[r][c] w[c].
template <int R, int V, bool Part>
PC3D_TARGET inline void multiply_tile(const Scalar* x, int64_t channels, const Scalar* w, Scalar* y, int64_t y_stride,
                                      int lanes, const int32_t* in, const int32_t* out) {
  const Scalar* a[R];
  Simd::Vector sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    a[r] = x + in[r] * channels;
    const Scalar* row = y + out[r] * y_stride;
#pragma GCC unroll 8
    for (int v = 0; v < V - 1; ++v) sum[r][v] = Simd::load(row + v * kWidth);
    sum[r][V - 1] = load_last<Part>(row + (V - 1) * kWidth, lanes);
  }
  for (int64_t c = 0; c < channels; ++c, w += V * kWidth) {
    Simd::Vector b[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) b[v] = Simd::load(w + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Simd::Vector value = Simd::broadcast(a[r] + c);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = Simd::multiply_add(value, b[v], sum[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    Scalar* row = y + out[r] * y_stride;
#pragma GCC unroll 8
    for (int v = 0; v < V - 1; ++v) Simd::store(row + v * kWidth, sum[r][v]);
    store_last<Part>(row + (V - 1) * kWidth, sum[r][V - 1], lanes);
  }
}

// The last `count` < R + 1 pairs, in one tile of just that many rows.
template <int R, int V, bool Part>
PC3D_TARGET void multiply_rest(const Scalar* x, int64_t channels, const Scalar* w, Scalar* y, int64_t y_stride, int lanes,
                               const int32_t* in, const int32_t* out, int64_t count) {
  if constexpr (R > 0) {
    if (count == R) multiply_tile<R, V, Part>(x, channels, w, y, y_stride, lanes, in, out);
    else multiply_rest<R - 1, V, Part>(x, channels, w, y, y_stride, lanes, in, out, count);
  }
}

template <int V, bool Part>
PC3D_TARGET void multiply_panel(const Scalar* x, int64_t channels, const Scalar* w, Scalar* y, int64_t y_stride, int lanes,
                                const Pairs& pairs) {
  constexpr int rows = Simd::rows_for(V);
  int64_t i = 0;
  for (; i + rows <= pairs.count; i += rows)
    multiply_tile<rows, V, Part>(x, channels, w, y, y_stride, lanes, pairs.in + i, pairs.out + i);
  multiply_rest<rows - 1, V, Part>(x, channels, w, y, y_stride, lanes, pairs.in + i, pairs.out + i, pairs.count - i);
}

template <int V>
PC3D_TARGET void multiply_columns(const Scalar* x, int64_t channels, const Scalar* w, Scalar* y, int64_t y_stride,
                                  int64_t columns, const Pairs& pairs) {
  if constexpr (V > 0) {
    const int lanes = static_cast<int>(columns - (V - 1) * kWidth);
    if (lanes <= 0) multiply_columns<V - 1>(x, channels, w, y, y_stride, columns, pairs);
    else if (lanes == kWidth) multiply_panel<V, false>(x, channels, w, y, y_stride, lanes, pairs);
    else multiply_panel<V, true>(x, channels, w, y, y_stride, lanes, pairs);
  }
}

// C channels of x against V vectors of g, in registers: d[c] += sum over pairs of x[in][c] g[out].
template <int C, int V, bool Part>
PC3D_TARGET inline void outer_tile(const Scalar* x, int64_t channels, const Scalar* g, int64_t g_stride, int lanes, Scalar* d,
                                   int64_t d_stride, const Pairs& pairs) {
  Simd::Vector sum[C][V];
#pragma GCC unroll 16
  for (int c = 0; c < C; ++c)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[c][v] = Simd::load(d + c * d_stride + v * kWidth);
  for (int64_t i = 0; i < pairs.count; ++i) {
    const Scalar* a = x + pairs.in[i] * channels;
    const Scalar* row = g + pairs.out[i] * g_stride;
    Simd::Vector b[V];
#pragma GCC unroll 8
    for (int v = 0; v < V - 1; ++v) b[v] = Simd::load(row + v * kWidth);
    b[V - 1] = load_last<Part>(row + (V - 1) * kWidth, lanes);
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      const Simd::Vector value = Simd::broadcast(a + c);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[c][v] = Simd::multiply_add(value, b[v], sum[c][v]);
    }
  }
#pragma GCC unroll 16
  for (int c = 0; c < C; ++c)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) Simd::store(d + c * d_stride + v * kWidth, sum[c][v]);
}

template <int C, int V, bool Part>
PC3D_TARGET void outer_rest(const Scalar* x, int64_t channels, const Scalar* g, int64_t g_stride, int lanes, Scalar* d,
                            int64_t d_stride, const Pairs& pairs, int64_t count) {
  if constexpr (C > 0) {
    if (count == C) outer_tile<C, V, Part>(x, channels, g, g_stride, lanes, d, d_stride, pairs);
    else outer_rest<C - 1, V, Part>(x, channels, g, g_stride, lanes, d, d_stride, pairs, count);
  }
}

template <int V, bool Part>
PC3D_TARGET void outer_panel(const Scalar* x, int64_t channels, const Scalar* g, int64_t g_stride, int lanes, Scalar* d,
                             int64_t d_stride, const Pairs& pairs) {
  constexpr int tile = Simd::channels_for(V);
  int64_t c = 0;
  for (; c + tile <= channels; c += tile)
    outer_tile<tile, V, Part>(x + c, channels, g, g_stride, lanes, d + c * d_stride, d_stride, pairs);
  outer_rest<tile - 1, V, Part>(x + c, channels, g, g_stride, lanes, d + c * d_stride, d_stride, pairs, channels - c);
}

template <int V>
PC3D_TARGET void outer_columns(const Scalar* x, int64_t channels, const Scalar* g, int64_t g_stride, int64_t columns, Scalar* d,
                               int64_t d_stride, const Pairs& pairs) {
  if constexpr (V > 0) {
    const int lanes = static_cast<int>(columns - (V - 1) * kWidth);
    if (lanes <= 0) outer_columns<V - 1>(x, channels, g, g_stride, columns, d, d_stride, pairs);
    else if (lanes == kWidth) outer_panel<V, false>(x, channels, g, g_stride, lanes, d, d_stride, pairs);
    else outer_panel<V, true>(x, channels, g, g_stride, lanes, d, d_stride, pairs);
  }
}

constexpr ConvKernels<Scalar> kernels = {kWidth, Simd::max_vectors, multiply_columns<Simd::max_vectors>,
                                         outer_columns<Simd::max_vectors>};

}  // namespace PC3D_SIMD
}  // namespace pc3d
