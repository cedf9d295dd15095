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

PC3D_TARGET void relation_row(const BoxColumns& boxes, const relation::Relation<float>& r, int64_t i, const float* weights,
                              const float* bias, int64_t heads, float* logs, float* out, int64_t out_stride) {
  relate_row(boxes, r, i, logs);
  for (int64_t j = 0; j < boxes.columns; j += Simd::width) {
    Vector sum[8];
    for (int h = 0; h < 8; ++h) sum[h] = Simd::set(bias[h]);
    for (int64_t f = 0; f < r.waves; ++f) {
      const float *shape = boxes.shape + f * boxes.columns, *w = weights + 16 * f;
      Vector sine, cosine;
      sine_cosine(turns(boxes, r, logs, shape, shape[i], f, j), &sine, &cosine);
#pragma GCC unroll 8
      for (int h = 0; h < 8; ++h) {
        sum[h] = Simd::multiply_add(sine, Simd::set(w[h]), sum[h]);
        sum[h] = Simd::multiply_add(cosine, Simd::set(w[8 + h]), sum[h]);
      }
    }
    const int64_t lanes = boxes.boxes - j < Simd::width ? boxes.boxes - j : Simd::width;
    for (int64_t h = 0; h < heads; ++h) {
      const Vector value = Simd::max(Simd::set(0), sum[h]);
      if (lanes == Simd::width) Simd::store(out + h * out_stride + j, value);
      else Simd::store_part(out + h * out_stride + j, value, static_cast<int>(lanes));
    }
  }
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
