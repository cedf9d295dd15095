// What csrc/ uses of the language and the runtime of CUDA, played by one thread of the CPU; machine.cpp says how. What is not
// here does not compile: a kernel that starts to use more of CUDA needs that played too.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define __host__
#define __device__
#define __global__
#define __launch_bounds__(...)
#define __syncthreads() ::cuda_on_cpu::barrier(__FILE__, __LINE__)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_in = 1, unsigned y_in = 1, unsigned z_in = 1) : x(x_in), y(y_in), z(z_in) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

using cudaStream_t = struct CudaStream*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaMemcpyKind { cudaMemcpyDeviceToHost = 2 };
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);

namespace cuda_on_cpu {

void barrier(const char* file, int line);
void run(dim3 grid, dim3 block, size_t dynamic_bytes, cudaStream_t stream, const void* kernel,
         const std::function<void()>& thread);
cudaError_t set_dynamic_bytes(const void* kernel, int bytes);
void* dynamic_shared();
void* static_shared(const char* file, int line, size_t bytes);

// `__shared__ T name[...]` becomes a reference to what this gives.
template <class Array>
Array& shared(const char* file, int line) { return *static_cast<Array*>(static_shared(file, line, sizeof(Array))); }

// `kernel<<<grid, block, bytes, stream>>>(arguments)` becomes this; `kernel` is known where it takes dynamic shared memory.
template <class Call, class... Arguments>
void launch(dim3 grid, dim3 block, size_t bytes, cudaStream_t stream, const void* kernel, const Call& call,
            Arguments... arguments) {
  static_assert((std::is_trivially_copyable_v<Arguments> && ...), "arguments of a kernel are copied as bytes");
  static_assert((sizeof(Arguments) + ... + 0) <= 4096, "a kernel takes at most 4096 bytes of arguments");
  run(grid, block, bytes, stream, kernel, [&] { call(arguments...); });
}

}  // namespace cuda_on_cpu

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute, int bytes) {
  return cuda_on_cpu::set_dynamic_bytes(reinterpret_cast<const void*>(kernel), bytes);
}
