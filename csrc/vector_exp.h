// exp of vectors of floats, to two units in the last place or so; NaN gives NaN.
//
// Include after defining PC3D_SIMD, PC3D_TARGET, PC3D_INLINE and in that namespace a struct Simd: Vector, set, multiply_add,
// max, round, scale. Nothing of the standard library is called here: code made for one instruction set can then never be
// picked by the linker for another.
#pragma once

namespace pc3d {
namespace PC3D_SIMD {

using Vector = Simd::Vector;

// c[0] + c[1] x + c[2] x^2 + ...
template <int N>
PC3D_INLINE Vector polynomial(Vector x, const float (&c)[N]) {
  Vector sum = Simd::set(c[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) sum = Simd::multiply_add(sum, x, Simd::set(c[i]));
  return sum;
}

// exp(x) for x <= 88 (Cephes polynomial); below -87 it is 0.
PC3D_INLINE Vector exp_of(Vector x) {
  x = Simd::max(Simd::set(-104.0f), x);
  const Vector n = Simd::round(x * Simd::set(1.44269504f));
  Vector r = Simd::multiply_add(n, Simd::set(-0.693359375f), x);
  r = Simd::multiply_add(n, Simd::set(2.12194440e-4f), r);
  const Vector p = polynomial(r, {5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f, 8.3334519073e-3f, 1.3981999507e-3f,
                                  1.9875691500e-4f});
  return Simd::scale(Simd::multiply_add(r * r, p, r + Simd::set(1)), n);
}

}  // namespace PC3D_SIMD
}  // namespace pc3d
