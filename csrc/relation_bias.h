// relation_bias(boxes, gauss, weight, bias) -> (H, K, K):  the attention bias of RSA; equations in pc3d/nn/rsa.py.
//
//   u_ijf = sum_a log(|x_i - x_j|_a / l_ia + 1) gauss[a, f] + sum_a log(l_ia / l_ja) gauss[3 + a, f]     in turns
//   out[h, i, j] = max(0, bias[h] + sum_f weight[h, f] sin(2 pi u_ijf) + weight[h, F + f] cos(2 pi u_ijf))
//
// relation_bias_grad(grad, out, boxes, gauss) -> (H, 2F + 1):  gradient of weight, then of bias in the last column.
//
// boxes is (K, 6): centres x and sizes l > 0; gauss (6, F), weight (H, 2F), bias (H); all float32 or all float64. Nothing of
// size K x K x F is made: both ops go through the pairs row by row and compute the encoding anew. The second half of u is
// a_i - a_j, so only the first is per pair. Sums are in a fixed order: results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "relation_bias_kernels.h"

namespace pc3d {

// A row of boxes and what does not depend on the pair, each padded with copies of the last box to whole vectors.
struct BoxColumns {
  const float* center[3];  // (columns) each
  const float* shape;      // (F, columns) a_j modulo one turn
  int64_t boxes, columns;
};

constexpr int kPairs = 48;  // of a row whose waves are made before they are multiplied: a few kilobytes

// The same two loops for an instruction set with vectors of floats, 8 heads at once.
struct RelationKernels {
  int width;
  // out[h * out_stride + j] for heads h < heads <= 8 and all j of row i; wave (F, 16) holds the weights of 8 heads for sin,
  // then for cos; `logs` is space for 3 rows of columns and, for `row`, the waves (F, 2) of kPairs pairs.
  void (*row)(const BoxColumns& boxes, const relation::Relation<float>& r, int64_t i, const float* wave, const float* bias,
              int64_t heads, float* logs, float* out, int64_t out_stride);
  // sums (F, 16) += over j of row i: g[h][j] sin, g[h][j] cos; g is (8, columns) and zero where there is no pair.
  void (*row_grad)(const BoxColumns& boxes, const relation::Relation<float>& r, int64_t i, const float* g, float* logs,
                   float* sums);
};

#if defined(__x86_64__)
extern const RelationKernels avx2_relation, avx512_relation;
#endif

}  // namespace pc3d
