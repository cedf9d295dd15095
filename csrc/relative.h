// relative_read(rows, bins, by_key) -> (H, K, M):  out[h, k, m] = sum over axes a of rows[h, r, bins[a, k, m]]
// relative_add(weights, bins, columns, by_key) -> (H, R, T):  its adjoint; weights[h, k, m] is added to those T = columns cells
//
// with r = m and R = M if by_key, else r = k and R = K. rows is (H, R, T), weights (H, K, M), both float32 or float64;
// bins is (3, K, M) int16 with values in [0, T). Each op is the gradient of the other. A bin out of range throws
// on the CPU; on CUDA it reads as NaN and adds nothing.
// Sums are in a fixed order: results do not depend on the number of threads.
#pragma once

#include "pc3d.h"

namespace pc3d {

Tensor relative_read(const Tensor& rows, const Tensor& bins, bool by_key);
Tensor relative_add(const Tensor& weights, const Tensor& bins, int64_t columns, bool by_key);

}  // namespace pc3d
