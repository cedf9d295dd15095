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
  using Weight = __m256;
  static constexpr int width = 8;
  static constexpr int step = 1;
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
  PC3D_INLINE Vector load_sum(const float* p) { return load(p); }
  PC3D_INLINE void store_sum(float* p, Vector v) { store(p, v); }
  PC3D_INLINE Weight weight(const float* p) { return load(p); }
  PC3D_INLINE Weight broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  PC3D_INLINE Weight broadcast_last(const float* p) { return broadcast(p); }
  PC3D_INLINE Vector multiply_add(Weight a, Weight b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  PC3D_INLINE Vector add(Vector a, Vector b) { return _mm256_add_ps(a, b); }
  // The second operand of max is what a NaN gives.
  PC3D_INLINE Vector scale_relu(Vector v, const float* scale, const float* shift) {
    return _mm256_max_ps(_mm256_setzero_ps(), _mm256_fmadd_ps(v, load(scale), load(shift)));
  }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

#include "sparse_conv_kernel.h"
#include "sparse_conv_grad_kernel.h"

namespace pc3d {

const ConvKernels<float> avx2_conv_float = avx2::conv_kernels;
const GradKernels<float> avx2_grad_float = avx2::grad_kernels;

}  // namespace pc3d
#endif
