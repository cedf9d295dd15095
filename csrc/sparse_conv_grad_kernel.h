// The innermost product of the weight gradient, written once for every instruction set; see sparse_conv_kernel.h, after which it
// is included. Simd brings the channels of a register tile that is so many vectors wide, channels_for, as well.

namespace pc3d {
namespace PC3D_SIMD {

// C channels of x against V vectors of g, in registers: d[c] += sum over pairs of x[in][c] g[out].
template <int C, int V, bool Part>
PC3D_TARGET inline void outer_tile(const Scalar* x, int64_t channels, const Scalar* g, int64_t g_stride, int lanes, Scalar* d,
                                   int64_t d_stride, const Pairs& pairs) {
  Vector sum[C][V];
#pragma GCC unroll 16
  for (int c = 0; c < C; ++c)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[c][v] = Simd::load(d + c * d_stride + v * kWidth);
  for (int64_t i = 0; i < pairs.count; ++i) {
    const Scalar* a = x + pairs.in[i] * channels;
    const Scalar* row = g + pairs.out[i] * g_stride;
    Vector b[V];
#pragma GCC unroll 8
    for (int v = 0; v < V - 1; ++v) b[v] = Simd::load(row + v * kWidth);
    b[V - 1] = load_last<Part>(row + (V - 1) * kWidth, lanes);
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) {
      const Vector value = Simd::broadcast(a + c);
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

constexpr GradKernels<Scalar> grad_kernels = {kWidth, Simd::max_vectors, outer_columns<Simd::max_vectors>};

}  // namespace PC3D_SIMD
}  // namespace pc3d
