// The loops of relation_bias over one row of pairs, written once for the instruction sets with vectors of floats.
//
// Include after defining PC3D_SIMD, PC3D_TARGET and the struct Simd of vector_math.h. Lanes are pairs (i, j) of one row i.
#include "relation_bias.h"
#include "vector_math.h"

namespace pc3d {
namespace PC3D_SIMD {

// log(|x_i - x_j| / l_i + 1) for the three axes and all j.
PC3D_TARGET inline void relate_row(const BoxColumns& boxes, const relation::Relation<float>& r, int64_t i, float* logs) {
  for (int a = 0; a < 3; ++a) {
    const Vector x = Simd::set(r.center(i, a)), size = Simd::set(r.size(i, a)), one = Simd::set(1);
    for (int64_t j = 0; j < boxes.columns; j += Simd::width)
      Simd::store(logs + a * boxes.columns + j, log_of(Simd::abs(x - Simd::load(boxes.center[a] + j)) / size + one));
  }
}

// Turns of wave f for one vector of pairs.
PC3D_INLINE Vector turns(const BoxColumns& boxes, const relation::Relation<float>& r, const float* logs, const float* shape,
                         float own, int64_t f, int64_t j) {
  Vector u = Simd::set(own) - Simd::load(shape + j);
  for (int a = 0; a < 3; ++a) u = Simd::multiply_add(Simd::load(logs + a * boxes.columns + j), Simd::set(r.turn(a, f)), u);
  return u;
}

// waves (F, 2, kPairs) of V vectors of pairs from j on: sin, then cos.
template <int V>
PC3D_TARGET inline void waves_of(const BoxColumns& boxes, const relation::Relation<float>& r, const float* logs, int64_t i,
                                 int64_t j, float* waves) {
  for (int64_t f = 0; f < r.waves; ++f, waves += 2 * kPairs) {
    const float* shape = boxes.shape + f * boxes.columns;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      Vector sine, cosine;
      sine_cosine(turns(boxes, r, logs, shape, shape[i], f, j + v * Simd::width), &sine, &cosine);
      Simd::store(waves + v * Simd::width, sine);
      Simd::store(waves + kPairs + v * Simd::width, cosine);
    }
  }
}

// out = max(0, bias + weights . waves) of H heads and V vectors of pairs, all in registers; the last vector stores `lanes`.
template <int H, int V>
PC3D_TARGET inline void heads_of(int64_t count, const float* waves, const float* weights, const float* bias, int64_t heads,
                                 int lanes, float* out, int64_t out_stride) {
  Vector sum[H][V];
#pragma GCC unroll 8
  for (int h = 0; h < H; ++h)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[h][v] = Simd::set(bias[h]);
  for (int64_t wave = 0; wave < 2 * count; ++wave, waves += kPairs, weights += 8) {
    Vector x[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) x[v] = Simd::load(waves + v * Simd::width);
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[h][v] = Simd::multiply_add(x[v], Simd::set(weights[h]), sum[h][v]);
  }
#pragma GCC unroll 8
  for (int h = 0; h < H; ++h) {
    if (h >= heads) return;
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const Vector value = Simd::max(Simd::set(0), sum[h][v]);
      float* to = out + h * out_stride + v * Simd::width;
      if (v + 1 < V || lanes == Simd::width) Simd::store(to, value);
      else Simd::store_part(to, value, lanes);
    }
  }
}

// The pairs of row i from j on, V vectors of them: waves first, which then are multiplied tile by tile.
template <int V>
PC3D_TARGET inline void relation_block(const BoxColumns& boxes, const relation::Relation<float>& r, int64_t i, int64_t j,
                                       const float* weights, const float* bias, int64_t heads, float* logs, float* out,
                                       int64_t out_stride) {
  constexpr int H = Simd::relation_heads;
  float* waves = logs + 3 * boxes.columns;
  waves_of<V>(boxes, r, logs, i, j, waves);
  for (int h = 0; h < heads; h += H)
#pragma GCC unroll 8
    for (int v = 0; v < V; v += 3) {
      const int64_t left = boxes.boxes - j - (v < V - 3 ? v + 2 : V - 1) * Simd::width;
      const int lanes = left < Simd::width ? static_cast<int>(left) : Simd::width;
      const float* own = waves + v * Simd::width;
      float* to = out + h * out_stride + j + v * Simd::width;
      if (v + 3 <= V) heads_of<H, 3>(r.waves, own, weights + h, bias + h, heads - h, lanes, to, out_stride);
      else heads_of<H, V % 3 ? V % 3 : 1>(r.waves, own, weights + h, bias + h, heads - h, lanes, to, out_stride);
    }
}

// As relation_block for the last pairs of a row, fewer than V vectors of them.
template <int V>
PC3D_TARGET inline void relation_rest(int64_t vectors, const BoxColumns& boxes, const relation::Relation<float>& r, int64_t i,
                                      int64_t j, const float* weights, const float* bias, int64_t heads, float* logs, float* out,
                                      int64_t out_stride) {
  if constexpr (V > 1) {
    if (vectors < V - 1) relation_rest<V - 1>(vectors, boxes, r, i, j, weights, bias, heads, logs, out, out_stride);
    else if (vectors == V - 1) relation_block<V - 1>(boxes, r, i, j, weights, bias, heads, logs, out, out_stride);
  }
}

PC3D_TARGET void relation_row(const BoxColumns& boxes, const relation::Relation<float>& r, int64_t i, const float* weights,
                              const float* bias, int64_t heads, float* logs, float* out, int64_t out_stride) {
  constexpr int V = kPairs / Simd::width;
  relate_row(boxes, r, i, logs);
  int64_t j = 0;
  for (; j + kPairs <= boxes.columns; j += kPairs)
    relation_block<V>(boxes, r, i, j, weights, bias, heads, logs, out, out_stride);
  relation_rest<V>((boxes.columns - j) / Simd::width, boxes, r, i, j, weights, bias, heads, logs, out, out_stride);
}

PC3D_TARGET void relation_row_grad(const BoxColumns& boxes, const relation::Relation<float>& r, int64_t i, const float* g,
                                   float* logs, float* sums) {
  relate_row(boxes, r, i, logs);
  for (int64_t f = 0; f < r.waves; ++f) {
    const float* shape = boxes.shape + f * boxes.columns;
    Vector sum[16] = {};
    for (int64_t j = 0; j < boxes.columns; j += Simd::width) {
      Vector sine, cosine;
      sine_cosine(turns(boxes, r, logs, shape, shape[i], f, j), &sine, &cosine);
#pragma GCC unroll 8
      for (int h = 0; h < 8; ++h) {
        const Vector grad = Simd::load(g + h * boxes.columns + j);
        sum[h] = Simd::multiply_add(grad, sine, sum[h]);
        sum[8 + h] = Simd::multiply_add(grad, cosine, sum[8 + h]);
      }
    }
    for (int h = 0; h < 16; ++h) sums[16 * f + h] += total_of(sum[h]);
  }
}

extern const RelationKernels relation_kernels;
const RelationKernels relation_kernels = {Simd::width, relation_row, relation_row_grad};

}  // namespace PC3D_SIMD
}  // namespace pc3d
