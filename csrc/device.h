// What code for both processors shares: functions that nvcc compiles for host and device, so that the CPU runs, and the
// CPU tests prove, the bodies of CUDA kernels. No torch headers here: .cu files see raw pointers and a stream only.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define PC3D_HD __host__ __device__
#else
#define PC3D_HD
#endif
