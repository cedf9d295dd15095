// The innermost products of the sparse convolution, written once for every instruction set.
//
// Include like sparse_conv_finish.h. Simd brings besides: `step`, the channels that one multiply_add takes; Weight, that many
// for each sum; weight, broadcast, broadcast_last (of a rest below `step`), multiply_add; max_vectors, and the rows of a
// register tile that is so many vectors wide, rows_for.

#include "sparse_conv_finish.h"

namespace pc3d {
namespace PC3D_SIMD {

constexpr int kStep = Simd::step;

// Channels of one input as the weights count them: in whole steps, a rest padded.
inline int64_t padded_channels(int64_t channels) { return (channels + kStep - 1) / kStep * kStep; }

inline int64_t tap_bytes(const Inputs<Scalar>& x, int64_t vectors) {
  int64_t channels = 0;
  for (int i = 0; i < x.count; ++i) channels += padded_channels(x.channels[i]);
  return channels * vectors * kWidth * static_cast<int64_t>(sizeof(Scalar));
}

// Weights as (channels / step, vectors * width, step), inputs one after another, padded with zeros.
inline void pack(const TapWeight<Scalar>& weight, const Inputs<Scalar>& x, int64_t vectors, void* packed) {
  Scalar* to = static_cast<Scalar*>(packed);
  const Scalar* from = weight.w;
  for (int i = 0; i < x.count; from += x.channels[i++] * weight.in_step)
    for (int64_t c = 0; c < padded_channels(x.channels[i]); c += kStep)
      for (int64_t j = 0; j < vectors * kWidth; ++j)
        for (int64_t s = c; s < c + kStep; ++s)
          *to++ = j < weight.columns && s < x.channels[i] ? from[j * weight.out_step + s * weight.in_step] : Scalar{};
}

constexpr int64_t kLine = 64 / sizeof(Scalar);  // channels of a cache line

// R sums, V vectors wide, in registers: sums[r] += sum over c of x[r][c] w[c]. Meanwhile the rows `next` are fetched: rows of
// x lie too far apart for the processor to foresee them.
template <int R, int V>
PC3D_TARGET inline __attribute__((always_inline)) void multiply_tile(const Inputs<Scalar>& x, const Scalar* w, SumType* sums,
                                                                     const int32_t* in, const int32_t* out, const int32_t* next) {
  Vector sum[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[r][v] = Simd::load_sum(sums + (int64_t(out[r]) * V + v) * kWidth);
  for (int i = 0; i < x.count; ++i) {
    const Scalar* a[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) a[r] = x.rows[i] + in[r] * x.channels[i];
    const int64_t whole = x.channels[i] / kStep * kStep;
    for (int64_t line = 0; line < whole; line += kLine) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) __builtin_prefetch(x.rows[i] + next[r] * x.channels[i] + line);
      const int64_t end = whole - line < kLine ? whole : line + kLine;
      for (int64_t c = line; c < end; c += kStep, w += V * kWidth * kStep) {
        Simd::Weight b[V];
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) b[v] = Simd::weight(w + v * kWidth * kStep);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const Simd::Weight value = Simd::broadcast(a[r] + c);
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) sum[r][v] = Simd::multiply_add(value, b[v], sum[r][v]);
        }
      }
    }
    if (kStep > 1 && whole < x.channels[i]) {
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v)
          sum[r][v] = Simd::multiply_add(Simd::broadcast_last(a[r] + whole), Simd::weight(w + v * kWidth * kStep), sum[r][v]);
      w += V * kWidth * kStep;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) Simd::store_sum(sums + (int64_t(out[r]) * V + v) * kWidth, sum[r][v]);
}

// The last `count` < R + 1 pairs, in one tile of just that many rows.
template <int R, int V>
PC3D_TARGET void multiply_rest(const Inputs<Scalar>& x, const Scalar* w, SumType* sums, const int32_t* in, const int32_t* out,
                               int64_t count) {
  if constexpr (R > 0) {
    if (count == R) multiply_tile<R, V>(x, w, sums, in, out, in);
    else multiply_rest<R - 1, V>(x, w, sums, in, out, count);
  }
}

template <int V>
PC3D_TARGET void multiply_panel(const Inputs<Scalar>& x, const void* w, int64_t vectors, SumType* sums, int64_t first,
                                const Pairs& pairs) {
  if constexpr (V > 0) {
    if (vectors < V) return multiply_panel<V - 1>(x, w, vectors, sums, first, pairs);
    constexpr int rows = Simd::rows_for(V);
    const Scalar* weight = static_cast<const Scalar*>(w);
    sums -= first * V * kWidth;
    int64_t i = 0;
    for (; i + rows <= pairs.count; i += rows) {
      const int64_t next = i + 2 * rows <= pairs.count ? i + rows : pairs.count - rows;
      multiply_tile<rows, V>(x, weight, sums, pairs.in + i, pairs.out + i, pairs.in + next);
    }
    multiply_rest<rows - 1, V>(x, weight, sums, pairs.in + i, pairs.out + i, pairs.count - i);
  }
}

constexpr ConvKernels<Scalar> conv_kernels = {
    kWidth, Simd::max_vectors, nullptr, tap_bytes, pack, multiply_panel<Simd::max_vectors>, finish};

}  // namespace PC3D_SIMD
}  // namespace pc3d
