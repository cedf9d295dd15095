#if defined(__x86_64__)
#define PC3D_SIMD avx512bf16
#define PC3D_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define PC3D_BF16
#include "sparse_conv_avx512.h"

namespace pc3d {
namespace PC3D_SIMD {

struct Simd : Halves {
  using Weight = __m512i;  // two neighbouring channels for each sum
  static constexpr int step = 2;
  static constexpr int max_vectors = 5;
  static constexpr int rows_for(int vectors) {
    return vectors == 1 ? 16 : vectors == 2 ? 8 : vectors == 3 ? 8 : vectors == 4 ? 6 : 5;
  }

  PC3D_INLINE Weight weight(const Bf16* p) { return _mm512_loadu_si512(p); }
  PC3D_INLINE Weight broadcast(const Bf16* p) {
    int pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  PC3D_INLINE Weight broadcast_last(const Bf16* p) { return _mm512_set1_epi32(p->bits); }
  PC3D_INLINE Vector multiply_add(Weight a, Weight b, Vector c) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
  }
};

}  // namespace PC3D_SIMD
}  // namespace pc3d

#include "sparse_conv_kernel.h"

namespace pc3d {

const ConvKernels<Bf16> avx512bf16_conv = PC3D_SIMD::conv_kernels;

}  // namespace pc3d
#endif
