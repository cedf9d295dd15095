// What code for both processors shares: functions that nvcc compiles for host and device, so that the CPU runs, and the
// CPU tests prove, the bodies of CUDA kernels. No torch headers here: .cu files see raw pointers and a stream only.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define PC3D_HD __host__ __device__
#define PC3D_UNROLL _Pragma("unroll")
#else
#define PC3D_HD
#define PC3D_UNROLL
#endif

namespace pc3d {

PC3D_HD constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls body(0), ..., body(count - 1) on the GPU, a thread each; defined in each.cuh, for the bodies named there in .cu files.
template <class Body>
void cuda_each(const Body& body, int64_t count, void* stream);

}  // namespace pc3d
