// log, sin and cos of vectors of floats, to two units in the last place or so; NaN gives NaN.
//
// Include after defining PC3D_SIMD, PC3D_TARGET, PC3D_INLINE and in that namespace a struct Simd: Vector, width, set, load,
// load_part, store, store_part, multiply_add, max, min, round, abs, mantissa, exponent. Nothing of the
// standard library is called here: code made for one instruction set can then never be picked by the linker for another.
#pragma once

#include "vector_exp.h"

namespace pc3d {
namespace PC3D_SIMD {

// sin and cos of 2 pi u, by those of half the angle. The fraction of u is exact in floats, so large angles lose no digits.
PC3D_INLINE void sine_cosine(Vector u, Vector* sine, Vector* cosine) {
  const Vector turn = u - Simd::round(u), square = turn * turn;  // [-1/2, 1/2]
  const Vector s = turn * polynomial(square, {3.14159264f, -5.16770968f, 2.55006973f, -0.598242122f, 0.077560379f});
  const Vector c = polynomial(square, {1.0f, -4.93480214f, 4.05870916f, -1.33521206f, 0.234937558f, -0.0243967145f});
  const Vector twice = s + s;
  *sine = twice * c;
  *cosine = Simd::set(1) - twice * s;
}

// log(x) for normal x > 0 (Cephes polynomial): x = m 2^e with m in [1, 2), brought to [sqrt(1/2), sqrt(2)).
PC3D_INLINE Vector log_of(Vector x) {
  Vector m = Simd::mantissa(x), e = Simd::exponent(x);
  const Vector high = Simd::at_least(m, 1.41421356f);              // 1 where m >= sqrt(2), else 0
  m = Simd::multiply_add(high, Simd::set(-0.5f) * m, m) - Simd::set(1);
  e = e + high;
  Vector y = m * polynomial(m, {3.3333331174e-1f, -2.4999993993e-1f, 2.0000714765e-1f, -1.6668057665e-1f, 1.4249322787e-1f,
                                -1.2420140846e-1f, 1.1676998740e-1f, -1.1514610310e-1f, 7.0376836292e-2f});
  y = Simd::multiply_add(e, Simd::set(-2.12194440e-4f), y * m * m);
  y = Simd::multiply_add(m * m, Simd::set(-0.5f), y);
  return Simd::multiply_add(e, Simd::set(0.693359375f), m + y);
}

// 2^x for x < 128; 0 below -126, where floats would be subnormal, which is slow. Minimax on [-1/2, 1/2], 2e-9.
PC3D_INLINE Vector power_of_two(Vector x) {
  const Vector least = Simd::set(-126.0f), inside = Simd::max(least, x), n = Simd::round(inside);
  const Vector p = polynomial(inside - n, {1.0f, 6.93147206e-1f, 2.40226469e-1f, 5.55032878e-2f, 9.61848896e-3f, 1.33999313e-3f,
                                           1.53458119e-4f});
  return Simd::where_greater(least, x, Simd::set(0), Simd::scale(p, n));
}

// Sum of the lanes, in order.
PC3D_INLINE float total_of(Vector v) {
  float lane[Simd::width], total = 0;
  Simd::store(lane, v);
  for (int l = 0; l < Simd::width; ++l) total += lane[l];
  return total;
}

}  // namespace PC3D_SIMD
}  // namespace pc3d
