// ASAM pooling on a GPU: the passes that the CPU runs too, a block of threads for each.
#include <cmath>

#include "asam_pool.h"

#pragma nv_diag_suppress 1675  // "#pragma GCC unroll" is for the compiler of the CPU

#define PC3D_TARGET __host__ __device__
#define PC3D_INLINE static inline __host__ __device__

namespace pc3d::asam {

constexpr int block_threads = 128;
constexpr int64_t max_blocks = 1024;

// `limit`, on the device, is a number of tiles; a pass is called for every `per` of them.
template <class Team, class T, class Pass>
__global__ void call_pass(Pass pass, int64_t count, const int64_t* limit, int per, T* spaces, int64_t space_size) {
  extern __shared__ double shared[];
  T* space = spaces ? spaces + blockIdx.x * space_size : reinterpret_cast<T*>(shared);
  const int64_t all = limit ? (*limit + per - 1) / per : count;
  for (int64_t i = blockIdx.x; i < all; i += gridDim.x) {
    pass(Team{static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x)}, i, space);
    __syncthreads();
  }
}

template <class Step>
__global__ void call_step(Step step, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * block_threads + threadIdx.x;
  if (i < count) step(i);
}

inline int shared_limit() {
  int device = 0, bytes = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return bytes;
}

// How many tiles there can be: their number is on the device.
inline int64_t most_tiles(const Shape& shape) { return shape.num_entries / tile_rows + shape.num_segments; }

// The Backend of asam_pool_driver.h.
template <class Team, class T>
struct Gpu {
  const Memory& memory;
  cudaStream_t stream;

  // Buffers lie in shared memory where they fit, else in scratch.
  template <class Pass>
  void launch(const Shape& shape, int64_t count, const int64_t* limit, int per, const Pass& pass) const {
    const int64_t blocks = count < max_blocks ? count : max_blocks;
    if (blocks == 0) return;
    const int64_t size = (num_buffers * shape.stride() + num_columns) * tile_rows;
    const bool fits = size * static_cast<int64_t>(sizeof(T)) <= shared_limit();
    const int bytes = fits ? static_cast<int>(size * sizeof(T)) : 0;
    if (fits) cudaFuncSetAttribute(call_pass<Team, T, Pass>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    T* spaces = fits ? nullptr : memory.get<T>(blocks * size);
    call_pass<Team, T, Pass><<<static_cast<unsigned>(blocks), block_threads, bytes, stream>>>(pass, count, limit, per, spaces, size);
  }
  template <class Pass>
  void run(const Shape& shape, int64_t count, const Pass& pass) const {
    launch(shape, count, nullptr, 1, pass);
  }
  template <class Pass>
  void over_tiles(const Shape& shape, const int64_t* tiles, const Pass& pass) const {
    launch(shape, most_tiles(shape), tiles + shape.num_segments, 1, pass);
  }
  template <class Pass>
  void over_chunks(const Shape& shape, const int64_t* tiles, const Pass& pass) const {
    launch(shape, ceil_div(most_tiles(shape), chunk_tiles), tiles + shape.num_segments, chunk_tiles, pass);
  }
  template <class Step>
  void each(int64_t count, const Step& step) const {
    if (count == 0) return;
    const auto blocks = static_cast<unsigned>((count + block_threads - 1) / block_threads);
    call_step<<<blocks, block_threads, 0, stream>>>(step, count);
  }
};

}  // namespace pc3d::asam

namespace pc3d::asam_cuda_float {
using Element = float;
}
namespace pc3d::asam_cuda_double {
using Element = double;
}
#define PC3D_SIMD asam_cuda_float
#include "asam_pool_lanes.h"
#include "asam_pool_rows.h"
#include "asam_pool_passes.h"
#include "asam_pool_driver.h"
#undef PC3D_SIMD
#define PC3D_SIMD asam_cuda_double
#include "asam_pool_lanes.h"
#include "asam_pool_rows.h"
#include "asam_pool_passes.h"
#include "asam_pool_driver.h"

namespace pc3d::asam {

template <>
void cuda_forward(const Shape& shape, const Input<float>& in, const Weights& weights, const Output<float>& out, const Memory& memory,
                  void* stream) {
  const Gpu<asam_cuda_float::Team, float> gpu{memory, static_cast<cudaStream_t>(stream)};
  asam_cuda_float::Pool<Gpu<asam_cuda_float::Team, float>>(gpu, shape, in, weights, out).forward();
}
template <>
void cuda_forward(const Shape& shape, const Input<double>& in, const Weights& weights, const Output<double>& out,
                  const Memory& memory, void* stream) {
  const Gpu<asam_cuda_double::Team, double> gpu{memory, static_cast<cudaStream_t>(stream)};
  asam_cuda_double::Pool<Gpu<asam_cuda_double::Team, double>>(gpu, shape, in, weights, out).forward();
}
template <>
void cuda_backward(const Shape& shape, const Input<float>& in, const Weights& weights, const Output<float>& out,
                   const Gradient<float>& grad, const Memory& memory, void* stream) {
  const Gpu<asam_cuda_float::Team, float> gpu{memory, static_cast<cudaStream_t>(stream)};
  asam_cuda_float::Pool<Gpu<asam_cuda_float::Team, float>>(gpu, shape, in, weights, out).backward(grad);
}
template <>
void cuda_backward(const Shape& shape, const Input<double>& in, const Weights& weights, const Output<double>& out,
                   const Gradient<double>& grad, const Memory& memory, void* stream) {
  const Gpu<asam_cuda_double::Team, double> gpu{memory, static_cast<cudaStream_t>(stream)};
  asam_cuda_double::Pool<Gpu<asam_cuda_double::Team, double>>(gpu, shape, in, weights, out).backward(grad);
}

}  // namespace pc3d::asam
