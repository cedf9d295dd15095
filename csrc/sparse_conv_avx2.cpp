#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#define PC3D_SIMD avx2
#define PC3D_TARGET __attribute__((target("avx2,fma")))
#define PC3D_INLINE PC3D_TARGET static inline __attribute__((always_inline))

namespace pc3d {
namespace PC3D_SIMD {

struct Simd {
  using T = float;
  using Vector = __m256;
  static constexpr int width = 8;
  static constexpr int max_vectors = 3;
  // Of 16 registers a tile takes rows * vectors for sums, `vectors` for weights and one for the broadcast.
  static constexpr int rows_for(int vectors) { return vectors == 1 ? 12 : vectors == 2 ? 6 : 4; }
  static constexpr int channels_for(int vectors) { return rows_for(vectors); }

  PC3D_INLINE __m256i mask(int lanes) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  PC3D_INLINE Vector load(const float* p) { return _mm256_loadu_ps(p); }
  PC3D_INLINE Vector load_part(const float* p, int lanes) { return _mm256_maskload_ps(p, mask(lanes)); }
  PC3D_INLINE void store(float* p, Vector v) { _mm256_storeu_ps(p, v); }
  PC3D_INLINE void store_part(float* p, Vector v, int lanes) { _mm256_maskstore_ps(p, mask(lanes), v); }
  PC3D_INLINE Vector broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  PC3D_INLINE Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

#include "sparse_conv_kernel.h"

namespace pc3d {

const ConvKernels<float> avx2_conv_float = avx2::kernels;

}  // namespace pc3d
#endif
