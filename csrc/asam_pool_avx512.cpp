#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#define PC3D_SIMD asam_avx512
#define PC3D_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define PC3D_INLINE PC3D_TARGET static inline __attribute__((always_inline))

namespace pc3d {
namespace PC3D_SIMD {

struct Simd {
  using T = float;
  using Vector = __m512;
  static constexpr int width = 16;
  // Of 32 registers a tile takes tile * panel for sums, `panel` for what is shared and one for the broadcast.
  static constexpr int panel = 2;
  static constexpr int tile = 12;

  PC3D_INLINE __mmask16 mask(int lanes) { return static_cast<__mmask16>((1u << lanes) - 1); }
  PC3D_INLINE Vector set(float x) { return _mm512_set1_ps(x); }
  PC3D_INLINE Vector load(const float* p) { return _mm512_loadu_ps(p); }
  PC3D_INLINE Vector load_part(const float* p, int lanes) { return _mm512_maskz_loadu_ps(mask(lanes), p); }
  PC3D_INLINE void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  PC3D_INLINE void store_part(float* p, Vector v, int lanes) { _mm512_mask_storeu_ps(p, mask(lanes), v); }
  PC3D_INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  PC3D_INLINE Vector max(Vector limit, Vector x) { return _mm512_max_ps(limit, x); }  // NaN in x stays
  PC3D_INLINE Vector relu(Vector x) { return max(_mm512_setzero_ps(), x); }
  PC3D_INLINE Vector round(Vector x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  PC3D_INLINE Vector scale(Vector x, Vector n) { return _mm512_scalef_ps(x, n); }
  PC3D_INLINE unsigned positive(Vector x) { return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ); }
  PC3D_INLINE Vector keep(unsigned bits, Vector x) { return _mm512_maskz_mov_ps(static_cast<__mmask16>(bits), x); }
  PC3D_INLINE float total(Vector x) { return _mm512_reduce_add_ps(x); }
  PC3D_INLINE Vector totals(const float* vectors) {  // of 16 vectors in a row, one number each
    __m512 four[4], two[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float* own = vectors + 64 * i;
      const __m512d low = _mm512_castps_pd(pairs(load(own), load(own + 16)));
      const __m512d high = _mm512_castps_pd(pairs(load(own + 32), load(own + 48)));
      four[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high)) + _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) two[i] = quarters(four[2 * i], four[2 * i + 1]);
    return quarters(two[0], two[1]);
  }
  PC3D_INLINE Vector pairs(Vector a, Vector b) { return _mm512_unpacklo_ps(a, b) + _mm512_unpackhi_ps(a, b); }
  PC3D_INLINE Vector quarters(Vector a, Vector b) {  // of four quarters each, sums of neighbours
    return _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
  }
  PC3D_INLINE __mmask16 beats(Vector value, Vector best) {  // as segment::beats
    return _mm512_cmp_ps_mask(value, best, _CMP_NLE_UQ) & _mm512_cmp_ps_mask(best, best, _CMP_ORD_Q);
  }
  PC3D_INLINE Vector choose(__mmask16 mask, Vector a, Vector b) { return _mm512_mask_mov_ps(b, mask, a); }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

#include "vector_exp.h"

#include "asam_pool_cpu.h"

namespace pc3d::asam {

const Kernels<float> avx512_float = {asam_avx512::forward, asam_avx512::backward};

}  // namespace pc3d::asam
#endif
