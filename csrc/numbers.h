// Half types and roundings, the same on both processors.
#pragma once

#include <cstdint>
#include <cstring>

#include "device.h"

namespace pc3d {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

PC3D_HD inline uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
PC3D_HD inline float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
PC3D_HD inline bool is_nan(uint32_t bits) { return (bits & 0x7fffffff) > 0x7f800000; }

inline float widen(BFloat16 value) { return float_of(static_cast<uint32_t>(value.bits) << 16); }
inline float widen(Half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16, rest = value.bits & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);  // infinite or NaN
  // As a float of the same bits the exponent is off by 112, for subnormal numbers too.
  return float_of(sign | bits_of(float_of(rest << 13) * 0x1p112f));
}

// Rounds to the nearest number of a type, ties to even.
template <class To>
PC3D_HD To narrow(float value);
template <class To>
PC3D_HD To narrow(double value) {
  return static_cast<To>(value);
}
template <>
PC3D_HD inline float narrow<float>(float value) {
  return value;
}
template <>
PC3D_HD inline BFloat16 narrow<BFloat16>(float value) {
  const uint32_t bits = bits_of(value);
  if (is_nan(bits)) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
template <>
PC3D_HD inline Half narrow<Half>(float value) {
#ifdef __CUDA_ARCH__
  Half half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
  return half;
#else
  const uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
  if (is_nan(bits)) return {static_cast<uint16_t>(sign | 0x7e00)};
  if (rest >= 0x477ff000) return {static_cast<uint16_t>(sign | 0x7c00)};  // 65520 and above round to infinity
  if (rest < 0x38800000) {  // below the smallest normal number: adding 0.5 leaves its multiples of 2^-24 as the low bits
    const float shifted = float_of(rest) + 0.5f;
    return {static_cast<uint16_t>(sign | (bits_of(shifted) - bits_of(0.5f)))};
  }
  return {static_cast<uint16_t>(sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13)};
#endif
}

// The 10-bit mantissa of the tensor cores' tf32, ties away from zero. A NaN stays one.
PC3D_HD inline uint32_t round_to_tf32(uint32_t bits) {
#ifdef __CUDA_ARCH__
  uint32_t rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(float_of(bits)));
  return rounded;
#else
  return is_nan(bits) ? 0x7fffffff : (bits + 0x1000) & 0xffffe000;
#endif
}

// a b + c, rounded once on the GPU; the CPU may round twice.
template <class T>
PC3D_HD T multiply_add(T a, T b, T c) {
#ifdef __CUDA_ARCH__
  if constexpr (sizeof(T) == 4) return fmaf(a, b, c);
  else return fma(a, b, c);
#else
  return a * b + c;
#endif
}

}  // namespace pc3d
