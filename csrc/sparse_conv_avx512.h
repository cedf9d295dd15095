// Vectors of sums in AVX-512, for the files whose kernels need it; include after PC3D_SIMD and PC3D_TARGET are defined, and
// PC3D_BF16 where the target has it.

#include <immintrin.h>

#include "sparse_conv.h"

#define PC3D_INLINE PC3D_TARGET static inline __attribute__((always_inline))

namespace pc3d {
namespace PC3D_SIMD {

struct Sums {
  using Vector = __m512;
  static constexpr int width = 16;

  PC3D_INLINE __mmask16 mask(int lanes) { return static_cast<__mmask16>((1u << lanes) - 1); }
  PC3D_INLINE Vector load_sum(const float* p) { return _mm512_loadu_ps(p); }
  PC3D_INLINE void store_sum(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  PC3D_INLINE Vector add(Vector a, Vector b) { return _mm512_add_ps(a, b); }
  // The second operand of max is what a NaN gives.
  PC3D_INLINE Vector scale_relu(Vector v, const float* scale, const float* shift) {
    return _mm512_max_ps(_mm512_setzero_ps(), _mm512_fmadd_ps(v, load_sum(scale), load_sum(shift)));
  }
};

struct Floats : Sums {
  using T = float;
  PC3D_INLINE Vector load(const float* p) { return _mm512_loadu_ps(p); }
  PC3D_INLINE Vector load_part(const float* p, int lanes) { return _mm512_maskz_loadu_ps(mask(lanes), p); }
  PC3D_INLINE void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  PC3D_INLINE void store_part(float* p, Vector v, int lanes) { _mm512_mask_storeu_ps(p, mask(lanes), v); }
};

#ifdef PC3D_BF16
struct Halves : Sums {
  using T = Bf16;
  PC3D_INLINE Vector widen(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
  PC3D_INLINE __m256i narrow(Vector v) { return (__m256i)_mm512_cvtneps_pbh(v); }
  PC3D_INLINE Vector load(const Bf16* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  PC3D_INLINE Vector load_part(const Bf16* p, int lanes) { return widen(_mm256_maskz_loadu_epi16(mask(lanes), p)); }
  PC3D_INLINE void store(Bf16* p, Vector v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v)); }
  PC3D_INLINE void store_part(Bf16* p, Vector v, int lanes) { _mm256_mask_storeu_epi16(p, mask(lanes), narrow(v)); }
};
#endif

}  // namespace PC3D_SIMD
}  // namespace pc3d
