#include <cstdint>
#include <cstring>

#define PC3D_TARGET

namespace pc3d {
namespace {

// 128-bit vectors, which every compiler maps to what the machine has (SSE2, NEON) or to scalars.
template <class Element>
struct Plain {
  using T = Element;
  typedef T Vector __attribute__((vector_size(16)));
  static constexpr int width = 16 / sizeof(T);
  static constexpr int max_vectors = 2;
  static constexpr int rows_for(int vectors) { return vectors == 1 ? 8 : 4; }
  static constexpr int channels_for(int vectors) { return rows_for(vectors); }

  static Vector load(const T* p) {
    Vector v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static Vector load_part(const T* p, int lanes) {
    Vector v = {};
    std::memcpy(&v, p, lanes * sizeof(T));
    return v;
  }
  static void store(T* p, Vector v) { std::memcpy(p, &v, sizeof v); }
  static void store_part(T* p, Vector v, int lanes) { std::memcpy(p, &v, lanes * sizeof(T)); }
  static Vector broadcast(const T* p) { return Vector{} + *p; }
  static Vector multiply_add(Vector a, Vector b, Vector c) { return a * b + c; }
};

}  // namespace

namespace plain_float {
using Simd = Plain<float>;
}
namespace plain_double {
using Simd = Plain<double>;
}
}  // namespace pc3d

#define PC3D_SIMD plain_float
#include "sparse_conv_kernel.h"
#undef PC3D_SIMD
#define PC3D_SIMD plain_double
#include "sparse_conv_kernel.h"

namespace pc3d {

const ConvKernels<float> plain_conv_float = plain_float::kernels;
const ConvKernels<double> plain_conv_double = plain_double::kernels;

}  // namespace pc3d
