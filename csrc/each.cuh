// One thread for each number of a range: how .cu files run bodies that are plain functions of an index.
#pragma once

#include "device.h"

namespace pc3d {

template <class Body>
__global__ void run_each(Body body, int64_t count) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) body(i);
}

template <class Body>
void cuda_each(const Body& body, int64_t count, void* stream) {
  constexpr int64_t threads = 256, most_blocks = int64_t(1) << 30;
  if (count == 0) return;  // a grid of no blocks is an error
  const int64_t blocks = ceil_div(count, threads);
  run_each<<<static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks), threads, 0, static_cast<cudaStream_t>(stream)>>>(
      body, count);
}

}  // namespace pc3d
