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
  using Weight = Vector;
  static constexpr int step = 1;
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
  static Vector load_sum(const T* p) { return load(p); }
  static void store_sum(T* p, Vector v) { store(p, v); }
  static Weight weight(const T* p) { return load(p); }
  static Weight broadcast(const T* p) { return Vector{} + *p; }
  static Weight broadcast_last(const T* p) { return broadcast(p); }
  static Vector multiply_add(Weight a, Weight b, Vector c) { return a * b + c; }
  static Vector add(Vector a, Vector b) { return a + b; }
  static Vector scale_relu(Vector v, const T* scale, const T* shift) {
    v = v * load(scale) + load(shift);
    return v < 0 ? Vector{} : v;
  }
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
#include "sparse_conv_grad_kernel.h"
#undef PC3D_SIMD
#define PC3D_SIMD plain_double
#include "sparse_conv_kernel.h"
#include "sparse_conv_grad_kernel.h"

namespace pc3d {

const ConvKernels<float> plain_conv_float = plain_float::conv_kernels;
const ConvKernels<double> plain_conv_double = plain_double::conv_kernels;
const GradKernels<float> plain_grad_float = plain_float::grad_kernels;
const GradKernels<double> plain_grad_double = plain_double::grad_kernels;

}  // namespace pc3d
