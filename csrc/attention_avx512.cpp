#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#define PC3D_SIMD attention_avx512
#define PC3D_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define PC3D_INLINE PC3D_TARGET static inline __attribute__((always_inline))

namespace pc3d {
namespace PC3D_SIMD {

struct Simd {
  using Vector = __m512;
  static constexpr int width = 16;

  PC3D_INLINE __mmask16 mask(int lanes) { return static_cast<__mmask16>((1u << lanes) - 1); }
  PC3D_INLINE Vector set(float x) { return _mm512_set1_ps(x); }
  PC3D_INLINE Vector load(const float* p) { return _mm512_loadu_ps(p); }
  PC3D_INLINE void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  PC3D_INLINE void store_part(float* p, Vector v, int lanes) { _mm512_mask_storeu_ps(p, mask(lanes), v); }
  PC3D_INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  PC3D_INLINE Vector max(Vector limit, Vector x) { return _mm512_max_ps(limit, x); }  // NaN in x stays
  PC3D_INLINE Vector min(Vector limit, Vector x) { return _mm512_min_ps(limit, x); }
  PC3D_INLINE Vector abs(Vector x) { return _mm512_abs_ps(x); }
  PC3D_INLINE Vector round(Vector x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  PC3D_INLINE Vector with_sign(Vector x, Vector sign) {
    return _mm512_xor_ps(x, _mm512_and_ps(sign, _mm512_set1_ps(-0.0f)));
  }
  PC3D_INLINE Vector mantissa(Vector x) { return _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src); }
  PC3D_INLINE Vector exponent(Vector x) { return _mm512_getexp_ps(x); }
  PC3D_INLINE Vector at_least(Vector x, float limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, set(limit), _CMP_GE_OQ), set(1));
  }
  PC3D_INLINE Vector scale(Vector x, Vector n) { return _mm512_scalef_ps(x, n); }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

#include "relation_bias_kernel.h"

namespace pc3d {

const RelationKernels avx512_relation = attention_avx512::relation_kernels;

}  // namespace pc3d
#endif
