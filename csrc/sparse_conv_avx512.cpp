#if defined(__x86_64__)
#define PC3D_SIMD avx512
#define PC3D_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#include "sparse_conv_avx512.h"

namespace pc3d {
namespace PC3D_SIMD {

struct Simd : Floats {
  using Weight = __m512;
  static constexpr int step = 1;
  static constexpr int max_vectors = 5;
  // Of 32 registers a tile takes rows * vectors for sums, `vectors` for weights and one for the broadcast.
  static constexpr int rows_for(int vectors) {
    return vectors == 1 ? 16 : vectors == 2 ? 8 : vectors == 3 ? 8 : vectors == 4 ? 6 : 5;
  }
  static constexpr int channels_for(int vectors) { return rows_for(vectors); }

  PC3D_INLINE Weight weight(const float* p) { return load(p); }
  PC3D_INLINE Weight broadcast(const float* p) { return _mm512_set1_ps(*p); }
  PC3D_INLINE Weight broadcast_last(const float* p) { return broadcast(p); }
  PC3D_INLINE Vector multiply_add(Weight a, Weight b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

#include "sparse_conv_kernel.h"
#include "sparse_conv_grad_kernel.h"

namespace pc3d {

const ConvKernels<float> avx512_conv_float = avx512::conv_kernels;
const GradKernels<float> avx512_grad_float = avx512::grad_kernels;

}  // namespace pc3d
#endif
