#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#define PC3D_SIMD attention_avx2
#define PC3D_TARGET __attribute__((target("avx2,fma")))
#define PC3D_INLINE PC3D_TARGET static inline __attribute__((always_inline))

namespace pc3d {
namespace PC3D_SIMD {

struct Simd {
  using Vector = __m256;
  using Heads = __m256;
  static constexpr int width = 8;
  static constexpr float infinity = __builtin_inff();
  // Register tiles: of 16 registers one takes key_rows * query_vectors, or 4 * column_vectors, for sums.
  static constexpr int query_vectors = 2, key_rows = 4, column_vectors = 2;
  static constexpr int relation_heads = 4;  // times 3 vectors of sums

  PC3D_INLINE __m256i mask(int lanes) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  PC3D_INLINE Vector set(float x) { return _mm256_set1_ps(x); }
  PC3D_INLINE Vector load(const float* p) { return _mm256_loadu_ps(p); }
  PC3D_INLINE void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
  PC3D_INLINE void store_part(float* p, Vector v, int lanes) { _mm256_maskstore_ps(p, mask(lanes), v); }
  PC3D_INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  PC3D_INLINE Vector max(Vector limit, Vector x) { return _mm256_max_ps(limit, x); }  // NaN in x stays
  PC3D_INLINE Vector min(Vector limit, Vector x) { return _mm256_min_ps(limit, x); }
  PC3D_INLINE Vector abs(Vector x) { return _mm256_andnot_ps(set(-0.0f), x); }
  PC3D_INLINE Vector round(Vector x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // NaN keeps its bits, all of them in the mantissa once the exponent is that of 1: it is put back by adding x - x.
  PC3D_INLINE Vector mantissa(Vector x) {
    const __m256i bits = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x007fffff));
    return _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x3f800000))) + (x - x);
  }
  PC3D_INLINE Vector exponent(Vector x) {
    const __m256i bits = _mm256_srli_epi32(_mm256_castps_si256(x), 23);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(bits, _mm256_set1_epi32(127)));
  }
  PC3D_INLINE Vector at_least(Vector x, float limit) {
    return _mm256_and_ps(_mm256_cmp_ps(x, set(limit), _CMP_GE_OQ), set(1));
  }
  PC3D_INLINE Vector floor(Vector x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
  PC3D_INLINE void store_int(int32_t* p, Vector v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_cvttps_epi32(v));
  }
  PC3D_INLINE float reciprocal_root(float x) { return 1 / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
  PC3D_INLINE Vector where(uint32_t lanes, Vector x) {  // else -infinity
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set_bits = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(lanes)), bit);
    return _mm256_blendv_ps(set(-infinity), x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set_bits, bit)));
  }
  PC3D_INLINE Vector where_greater(Vector a, Vector b, Vector yes, Vector no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_GT_OQ));
  }
  PC3D_INLINE bool any_greater(Vector a, Vector b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0; }
  PC3D_INLINE Heads load_heads(const float* p) { return _mm256_loadu_ps(p); }
  PC3D_INLINE void store_heads(float* p, Heads v) { _mm256_storeu_ps(p, v); }
  PC3D_INLINE Vector repeat(const float* p) { return _mm256_loadu_ps(p); }
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
  PC3D_INLINE Vector finite_or_zero(Vector x) { return _mm256_and_ps(x, _mm256_cmp_ps(x, set(-infinity), _CMP_NEQ_UQ)); }
  // Two factors, since 2^n alone can leave the range of floats.
  PC3D_INLINE Vector scale(Vector x, Vector n) {
    const __m256i all = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(all, 1);
    const __m256i one = _mm256_set1_epi32(127), rest = _mm256_sub_epi32(all, half);
    const Vector first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, one), 23));
    return x * first * _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, one), 23));
  }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

#include "mask_boxes_kernel.h"
#include "relation_bias_kernel.h"
#include "relative_attention_kernel.h"

namespace pc3d {

const RelationKernels avx2_relation = attention_avx2::relation_kernels;
const MaskBox avx2_mask_box = attention_avx2::mask_box_kernel;
const AttentionKernels avx2_attention = attention_avx2::attention_kernels;

}  // namespace pc3d
#endif
