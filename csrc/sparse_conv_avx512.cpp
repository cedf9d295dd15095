#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#define PC3D_SIMD avx512
#define PC3D_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define PC3D_INLINE PC3D_TARGET static inline __attribute__((always_inline))

namespace pc3d {
namespace PC3D_SIMD {

struct Simd {
  using T = float;
  using Vector = __m512;
  static constexpr int width = 16;
  static constexpr int max_vectors = 5;
  // Of 32 registers a tile takes rows * vectors for sums, `vectors` for weights and one for the broadcast.
  static constexpr int rows_for(int vectors) {
    return vectors == 1 ? 16 : vectors == 2 ? 12 : vectors == 3 ? 8 : vectors == 4 ? 6 : 5;
  }
  static constexpr int channels_for(int vectors) { return vectors == 2 ? 8 : rows_for(vectors); }

  PC3D_INLINE __mmask16 mask(int lanes) { return static_cast<__mmask16>((1u << lanes) - 1); }
  PC3D_INLINE Vector load(const float* p) { return _mm512_loadu_ps(p); }
  PC3D_INLINE Vector load_part(const float* p, int lanes) { return _mm512_maskz_loadu_ps(mask(lanes), p); }
  PC3D_INLINE void store(float* p, Vector v) { _mm512_storeu_ps(p, v); }
  PC3D_INLINE void store_part(float* p, Vector v, int lanes) { _mm512_mask_storeu_ps(p, mask(lanes), v); }
  PC3D_INLINE Vector broadcast(const float* p) { return _mm512_set1_ps(*p); }
  PC3D_INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

#include "sparse_conv_kernel.h"

namespace pc3d {

const ConvKernels<float> avx512_conv_float = avx512::kernels;

}  // namespace pc3d
#endif
