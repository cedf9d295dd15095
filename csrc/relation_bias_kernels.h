// Bodies of the CUDA kernels of relation_bias, which the plain CPU kernel runs too. See relation_bias.h for what they mean.
#pragma once

#include <cmath>

#include "device.h"

namespace pc3d::relation {

// Known to pc3d/nn/rsa.py too: metres added to box sizes.
constexpr double kEpsilon = 1e-5;

template <class T>
struct Relation {
  const T* boxes;   // (K, 6)
  const T* gauss;   // (6, F)
  int64_t count, waves, heads;

  PC3D_HD T center(int64_t i, int a) const { return boxes[6 * i + a]; }
  PC3D_HD T size(int64_t i, int a) const { return boxes[6 * i + 3 + a] + static_cast<T>(kEpsilon); }
  PC3D_HD T turn(int a, int64_t f) const { return gauss[a * waves + f]; }
};

// The six logarithms of a pair of boxes.
template <class T>
PC3D_HD void relate(const Relation<T>& r, int64_t i, int64_t j, T* d) {
  for (int a = 0; a < 3; ++a) {
    const T size = r.size(i, a);
    d[a] = std::log(std::fabs(r.center(i, a) - r.center(j, a)) / size + 1);
    d[3 + a] = std::log(size / r.size(j, a));
  }
}

// sin and cos of 2 pi u: whole turns go first, so that large angles lose no digits to the product with 2 pi.
template <class T>
PC3D_HD void wave(const Relation<T>& r, const T* d, int64_t f, T* sine, T* cosine) {
  T u = 0;
  for (int a = 0; a < 6; ++a) u += d[a] * r.turn(a, f);
  u = (u - std::rint(u)) * static_cast<T>(6.283185307179586476925);
  *sine = std::sin(u);
  *cosine = std::cos(u);
}

// All heads of one pair; out[h * stride].
template <class T>
PC3D_HD void bias_of_pair(const Relation<T>& r, const T* weight, const T* bias, int64_t i, int64_t j, T* out, int64_t stride) {
  T d[6];
  relate(r, i, j, d);
  for (int64_t h = 0; h < r.heads; ++h) out[h * stride] = bias[h];
  for (int64_t f = 0; f < r.waves; ++f) {
    T sine, cosine;
    wave(r, d, f, &sine, &cosine);
    for (int64_t h = 0; h < r.heads; ++h) {
      const T* w = weight + h * 2 * r.waves;
      out[h * stride] += w[f] * sine + w[r.waves + f] * cosine;
    }
  }
  for (int64_t h = 0; h < r.heads; ++h) {
    const T value = out[h * stride];
    out[h * stride] = value < 0 ? T(0) : value;  // NaN stays NaN
  }
}

constexpr int kHeads = 8;  // heads that one pass over the pairs serves

// What the pairs of row i with j in [begin, end) add to the gradients of `heads` <= 8 heads from `first` on: of the weights of
// wave f, sin and cos; with f = waves, of the bias. d holds the six logarithms of those pairs.
template <class T>
PC3D_HD void grad_of_pairs(const Relation<T>& r, const T* d, const T* grad, const T* out, int64_t i, int64_t f, int64_t first,
                           int64_t heads, int64_t begin, int64_t end, T* by_sine, T* by_cosine) {
  for (int64_t j = begin; j < end; ++j) {
    T sine = 1, cosine = 0;
    if (f < r.waves) wave(r, d + 6 * (j - begin), f, &sine, &cosine);
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t at = ((first + h) * r.count + i) * r.count + j;
      const T g = out[at] > 0 ? grad[at] : T(0);
      by_sine[h] += g * sine;
      by_cosine[h] += g * cosine;
    }
  }
}

// Puts the sums of 8 heads where they belong in a row (H, 2F + 1).
template <class T>
PC3D_HD void place_grad(const Relation<T>& r, int64_t f, int64_t first, int64_t heads, const T* by_sine, const T* by_cosine,
                        T* row) {
  for (int64_t h = 0; h < heads; ++h) {
    T* to = row + (first + h) * (2 * r.waves + 1);
    to[f < r.waves ? f : 2 * r.waves] = by_sine[h];
    if (f < r.waves) to[r.waves + f] = by_cosine[h];
  }
}

template <class T>
void cuda_bias(const Relation<T>& r, const T* weight, const T* bias, T* out, void* stream);
template <class T>
void cuda_grad(const Relation<T>& r, const T* grad, const T* out, T* rows, T* total, void* stream);

}  // namespace pc3d::relation
