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
  using Heads = __m256;
  static constexpr int width = 16;
  static constexpr float infinity = __builtin_inff();
  // Register tiles: of 32 registers one takes key_rows * query_vectors, or 4 * column_vectors, for sums.
  static constexpr int query_vectors = 2, key_rows = 8, column_vectors = 3;
  static constexpr int relation_heads = 8;  // times 3 vectors of sums

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
  PC3D_INLINE Vector mantissa(Vector x) { return _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src); }
  PC3D_INLINE Vector exponent(Vector x) { return _mm512_getexp_ps(x); }
  PC3D_INLINE Vector at_least(Vector x, float limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, set(limit), _CMP_GE_OQ), set(1));
  }
  PC3D_INLINE Vector floor(Vector x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
  PC3D_INLINE void store_int(int32_t* p, Vector v) { _mm512_storeu_si512(p, _mm512_cvttps_epi32(v)); }
  PC3D_INLINE float reciprocal_root(float x) { return 1 / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
  PC3D_INLINE Vector where(uint32_t lanes, Vector x) {  // else -infinity
    return _mm512_mask_mov_ps(set(-infinity), static_cast<__mmask16>(lanes), x);
  }
  PC3D_INLINE Vector where_greater(Vector a, Vector b, Vector yes, Vector no) {
    return _mm512_mask_mov_ps(no, _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), yes);
  }
  PC3D_INLINE bool any_greater(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
  PC3D_INLINE Heads load_heads(const float* p) { return _mm256_loadu_ps(p); }
  PC3D_INLINE void store_heads(float* p, Heads v) { _mm256_storeu_ps(p, v); }
  PC3D_INLINE Vector repeat(const float* p) { return _mm512_broadcast_f32x8(_mm256_loadu_ps(p)); }
  PC3D_INLINE void transpose(Heads (&r)[8]) {
    Heads s[8], t[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      s[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
      s[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        const __m256d a = _mm256_castps_pd(s[4 * i + j]), b = _mm256_castps_pd(s[4 * i + 2 + j]);
        t[4 * i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
        t[4 * i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
      }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      r[i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x20);
      r[4 + i] = _mm256_permute2f128_ps(t[i], t[4 + i], 0x31);
    }
  }
  PC3D_INLINE Vector finite_or_zero(Vector x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, set(-infinity), _CMP_NEQ_UQ), x); }
  PC3D_INLINE Vector scale(Vector x, Vector n) { return _mm512_scalef_ps(x, n); }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

#include "mask_boxes_kernel.h"
#include "relation_bias_kernel.h"
#include "relative_attention_kernel.h"

namespace pc3d {

const RelationKernels avx512_relation = attention_avx512::relation_kernels;
const MaskBox avx512_mask_box = attention_avx512::mask_box_kernel;
const AttentionKernels avx512_attention = attention_avx512::attention_kernels;

}  // namespace pc3d
#endif
