// Bodies of the CUDA kernels of relative_read and relative_add: one pair, one cell. See relative.h for what they mean.
#pragma once

#include <cmath>

#include "device.h"

namespace pc3d::relative {

// bins (3, K, M): the table column of each pair on each axis.
struct Pairs {
  const int16_t* bins;
  int64_t heads, queries, keys, columns;
  bool by_key;

  PC3D_HD int64_t num_rows() const { return by_key ? keys : queries; }
  PC3D_HD const int16_t* axis(int a, int64_t k) const { return bins + (a * queries + k) * keys; }
};

// Sum of the three columns of pair (k, m) in its row (T). The device cannot raise: a bin out of range reads as NaN.
template <class T>
PC3D_HD T read_pair(const Pairs& p, const T* row, int64_t k, int64_t m) {
  T total = 0;
  for (int a = 0; a < 3; ++a) {
    const int64_t column = p.axis(a, k)[m];
    total += column >= 0 && column < p.columns ? row[column] : static_cast<T>(NAN);
  }
  return total;
}

// What falls on one column of one row: weights (K, M) of its head, in the order in which the CPU adds them.
template <class T>
PC3D_HD T add_cell(const Pairs& p, const T* weights, int64_t row, int64_t column) {
  T total = 0;
  const int64_t count = p.by_key ? p.queries : p.keys;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t k = p.by_key ? i : row, m = p.by_key ? row : i;
    const T weight = weights[k * p.keys + m];
    for (int a = 0; a < 3; ++a)
      if (p.axis(a, k)[m] == column) total += weight;
  }
  return total;
}

template <class T>
void cuda_read(const Pairs& pairs, const T* rows, T* out, void* stream);
template <class T>
void cuda_add(const Pairs& pairs, const T* weights, T* rows, void* stream);

}  // namespace pc3d::relative
