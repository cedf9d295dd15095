#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#define PC3D_SIMD asam_avx2
#define PC3D_TARGET __attribute__((target("avx2,fma")))
#define PC3D_INLINE PC3D_TARGET static inline __attribute__((always_inline))

namespace pc3d {
namespace PC3D_SIMD {

struct Simd {
  using T = float;
  using Vector = __m256;
  static constexpr int width = 8;
  // Of 16 registers a tile takes tile * panel for sums, `panel` for what is shared and one for the broadcast.
  static constexpr int panel = 2;
  static constexpr int tile = 6;

  PC3D_INLINE __m256i mask(int lanes) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  PC3D_INLINE Vector set(float x) { return _mm256_set1_ps(x); }
  PC3D_INLINE Vector load(const float* p) { return _mm256_loadu_ps(p); }
  PC3D_INLINE Vector load_part(const float* p, int lanes) { return _mm256_maskload_ps(p, mask(lanes)); }
  PC3D_INLINE void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
  PC3D_INLINE void store_part(float* p, Vector v, int lanes) { _mm256_maskstore_ps(p, mask(lanes), v); }
  PC3D_INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  PC3D_INLINE Vector max(Vector limit, Vector x) { return _mm256_max_ps(limit, x); }  // NaN in x stays
  PC3D_INLINE Vector relu(Vector x) { return max(_mm256_setzero_ps(), x); }
  PC3D_INLINE Vector round(Vector x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  PC3D_INLINE Vector scale(Vector x, Vector n) {  // x 2^n; in two steps, because 2^n may be no normal number where x 2^n is
    const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    const __m256i one = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i other = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(whole, half), bias), 23);
    return x * _mm256_castsi256_ps(one) * _mm256_castsi256_ps(other);
  }
  PC3D_INLINE unsigned positive(Vector x) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ)));
  }
  PC3D_INLINE Vector keep(unsigned bits, Vector x) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i open = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane), lane);
    return _mm256_and_ps(_mm256_castsi256_ps(open), x);
  }
  PC3D_INLINE float total(Vector x) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
  }
  PC3D_INLINE Vector totals(const float* vectors) {  // of 8 vectors in a row, one number each
    __m256 pair[4];
    for (int i = 0; i < 4; ++i) pair[i] = _mm256_hadd_ps(load(vectors + 16 * i), load(vectors + 16 * i + 8));
    const __m256 low = _mm256_hadd_ps(pair[0], pair[1]), high = _mm256_hadd_ps(pair[2], pair[3]);
    return _mm256_permute2f128_ps(low, high, 0x20) + _mm256_permute2f128_ps(low, high, 0x31);
  }
  PC3D_INLINE Vector beats(Vector value, Vector best) {  // as segment::beats
    return _mm256_and_ps(_mm256_cmp_ps(value, best, _CMP_NLE_UQ), _mm256_cmp_ps(best, best, _CMP_ORD_Q));
  }
  PC3D_INLINE Vector choose(Vector mask, Vector a, Vector b) { return _mm256_blendv_ps(b, a, mask); }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

#include "vector_exp.h"

#include "asam_pool_cpu.h"

namespace pc3d::asam {

const Kernels<float> avx2_float = {asam_avx2::forward, asam_avx2::backward};

}  // namespace pc3d::asam
#endif
